"""The view of operators: logs, later metrics and pages."""
