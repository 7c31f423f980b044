"""Plain-Python versions of what is compiled, as an oracle: slow, obvious, and used by no program."""
