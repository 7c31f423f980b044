"""The observer process: metrics, the page for operators, timelines."""
