"""State and messages that cross process borders: shared memory, control channels, signals, the log file."""
