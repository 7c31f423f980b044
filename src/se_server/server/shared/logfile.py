"""`--log-file`: a file in the place of stderr, which may be moved away and opened anew while the server runs.

It takes the descriptor, not only what is logged: what C code prints and the stacks of `faulthandler` land in it, too.
Every process writes whole lines to the end (O_APPEND), and changes to a new file between two of them (dup2), so that
no line is lost, and none is in the old file once the process has said that it has changed.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from se_server.errors import ConfigError

_FD_STDERR = 2
_MODE = 0o640  # conversation ids and addresses are not for everybody


class LogFile:
    """The file that stderr goes to. A supervisor makes it before the fork, and each worker has it for itself then.

    Args:
        path: where it is, seen from here and now.

    Raises:
        ConfigError: it cannot be written to.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._former: int | None = None
        try:
            opened = self._open()
        except OSError as error:
            raise ConfigError(f"--log-file: cannot write to {self.path}: {error.strerror}") from None
        if not os.path.sameopenfile(opened, _FD_STDERR):  # as it is after an upgrade
            self._former = os.dup(_FD_STDERR)
        self._take_place(opened)

    def _open(self) -> int:
        # Without O_NONBLOCK a pipe that nobody reads would hold us up.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
        opened = os.open(self.path, flags, _MODE)
        os.set_blocking(opened, True)
        return opened

    def _take_place(self, opened: int) -> None:
        os.dup2(opened, _FD_STDERR)
        os.close(opened)

    def reopen(self) -> str:
        """Change to the file that has the path now, or is made there; any thread may.

        Returns:
            Why not, in one sentence, and all goes on into the old file; or nothing.
        """
        try:
            self._take_place(self._open())
        except OSError as error:
            return f"cannot write to {self.path}, the old log file is kept: {error.strerror}"
        return ""

    def has_moved(self) -> bool:
        """Whether another file has the path by now, or none."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(_FD_STDERR))
        except OSError:
            return True

    # --- the terminal that the server was started from ---

    def write_to_starter(self, data: bytes) -> None:
        """Write to what was stderr before, as long as the start lasts: who starts a server looks there."""
        if self._former is not None:
            with suppress(OSError):  # nobody reads any more
                os.write(self._former, data)

    def give_back(self) -> None:
        """Make stderr what it was before: the server does not start after all."""
        if self._former is not None:
            os.dup2(self._former, _FD_STDERR)
            self.close()

    def close(self) -> None:
        """Let go of the former stderr: the server has started, or this is a worker. Any number of times."""
        if self._former is not None:
            os.close(self._former)
            self._former = None


def check_log_file(path: str) -> None:
    """See whether a file could be written to, without making it.

    Raises:
        ConfigError: it could not.
    """
    path = os.path.abspath(path)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        reason = "Is a directory" if is_folder else "" if os.access(path, os.W_OK) else "Permission denied"
    except FileNotFoundError:
        folder = os.path.dirname(path)
        can_be_made = os.access(folder, os.W_OK | os.X_OK)
        reason = "" if can_be_made else "Permission denied" if os.path.isdir(folder) else "No such file or directory"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--log-file: cannot write to {path}: {reason}")
