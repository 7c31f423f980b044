"""Exit codes of the supervisor and of its workers."""

EXIT_OK = 0
EXIT_BOOT = 3
"""The APP cannot be loaded or started."""
EXIT_BUG = 70
"""An unexpected exception in se-server itself; EX_SOFTWARE of sysexits."""
EXIT_HUNG = 75
"""A worker without a supervisor did not end in time and ended itself."""
