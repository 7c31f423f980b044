"""Callers of special benchmarks (crowds, rushes, dropped conversations), and the servers under test (`targets/`)."""
