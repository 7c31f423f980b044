"""What crosses process borders: shared memory, control channels, signals, the log file."""
