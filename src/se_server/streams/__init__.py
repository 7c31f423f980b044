"""The stream of one answer: opened, iterated, read for its text, closed."""
