"""`--log-file`: a file that replaces stderr, and that can be moved away and reopened while the server runs.

It replaces the descriptor, so that it also receives the output of C code and the stacks of `faulthandler`. Every
process appends whole lines (O_APPEND) and changes to a new file between two lines (dup2). No line is lost, and after a
process has reported the change, it writes no line to the old file.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from se_server.errors import ConfigError
from se_server.server.shared.safe_paths import is_private, resolve
from se_server.telemetry.log_writer import flush_logs, wait_writable

_FD_STDERR = 2
_MODE = 0o640  # conversation ids and addresses are private


class LogFile:
    """The file that replaces stderr. The supervisor opens it before the fork, and each worker reopens its own copy.

    Args:
        path: the path of the file, absolute or relative to the current directory.

    Raises:
        ConfigError: the file cannot be written to.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._former: int | None = None
        try:
            opened = self._open()
        except OSError as error:
            raise ConfigError(f"--log-file: cannot write to {self.path}: {error.strerror}") from None
        if not os.path.sameopenfile(opened, _FD_STDERR):  # after an upgrade it is the same file
            self._former = os.dup(_FD_STDERR)
        self._take_place(opened)

    def _open(self) -> int:
        # Without O_NONBLOCK, opening a pipe without a reader would block.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
        path = resolve(self.path)
        if not path.startswith("/proc/"):
            flags |= os.O_NOFOLLOW  # its links were followed, and another one may have been put there since
        opened = os.open(path, flags, _MODE)
        try:
            os.set_blocking(opened, True)
            _check_links(os.fstat(opened), path)
        except OSError:
            os.close(opened)
            raise
        return opened

    def _take_place(self, opened: int) -> None:
        os.dup2(opened, _FD_STDERR)
        os.close(opened)

    def reopen(self) -> str:
        """Open the file at the path again, or create it. Any thread may call this.

        Returns:
            An empty string, or one sentence on why that is impossible; the old file stays in use then.
        """
        try:
            self._take_place(self._open())
        except OSError as error:
            return f"cannot write to {self.path}, the old log file is kept: {error.strerror}"
        flush_logs()  # a write to the old file that another thread has begun ends before the change is reported
        return ""

    def has_moved(self) -> bool:
        """Whether the path has no file or another file by now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(_FD_STDERR))
        except OSError:
            return True

    # --- the terminal that the server was started from ---

    def write_to_starter(self, data: bytes) -> None:
        """Write to the former stderr while the server starts: the person who starts it looks there."""
        if self._former is not None:
            with suppress(OSError):  # the reader is gone
                if wait_writable(self._former, 0):
                    os.write(self._former, data)

    def give_back(self) -> None:
        """Restore the former stderr, when the server does not start."""
        if self._former is not None:
            os.dup2(self._former, _FD_STDERR)
            self.close()

    def close(self) -> None:
        """Close the former stderr, after the start and in workers. May be called any number of times."""
        if self._former is not None:
            os.close(self._former)
            self._former = None


def _check_links(seen: os.stat_result, path: str) -> None:
    """Refuse a hard link that another user could have made.

    Raises:
        OSError: the file has several names, and others can write to its directory.
    """
    if stat.S_ISREG(seen.st_mode) and seen.st_nlink > 1 and not is_private(os.path.dirname(path)):
        raise OSError(errno.EPERM, f"it has {seen.st_nlink} hard links, in a directory of another user")


def check_log_file(path: str) -> None:
    """Check that a log file can be written to, without creating it.

    Raises:
        ConfigError: the file cannot be written to.
    """
    path = os.path.abspath(path)
    try:
        resolved = resolve(path)
        seen = os.stat(resolved)
        _check_links(seen, resolved)
        is_folder = stat.S_ISDIR(seen.st_mode)
        reason = "Is a directory" if is_folder else "" if os.access(path, os.W_OK) else "Permission denied"
    except FileNotFoundError:
        folder = os.path.dirname(path)
        can_be_made = os.access(folder, os.W_OK | os.X_OK)
        reason = "" if can_be_made else "Permission denied" if os.path.isdir(folder) else "No such file or directory"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--log-file: cannot write to {path}: {reason}")
