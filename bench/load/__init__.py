"""The load generator, what its conversations say, and the servers it is pointed at (`targets/`)."""
