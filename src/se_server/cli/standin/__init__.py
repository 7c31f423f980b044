"""A folder for `sys.path`: what `spawn` and `forkserver` start gets that list, and no finder of this process."""
