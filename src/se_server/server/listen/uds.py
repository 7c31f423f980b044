"""A Unix socket to listen on."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from se_server.errors import ConfigError
from se_server.server.listen.sockets import BACKLOG, InUse

MODE = 0o600
_PROBE_S = 1.0


class UnixListenSocket:
    """A listen socket and its file.

    Args:
        path: the path of the file. The file of a process that has ended is replaced.
        mode: the permissions of the file; write permission allows to connect.
        group: the group of the file, by name or number; None leaves the user's own.
        backlog: connections that the kernel holds until they are accepted.
        option: the name of the option, with which errors begin.

    Attributes:
        socket: bound, listening and non-blocking; owned by the caller.

    Raises:
        ConfigError: the path cannot be used; the text gives the reason.
    """

    def __init__(
        self, path: str, *, mode: int = MODE, group: str | None = None, backlog: int = BACKLOG, option: str = "uds"
    ) -> None:
        group_id = -1 if group is None else _group_id(group)
        self._path = os.path.abspath(path)  # user code may change the directory
        self._file: tuple[int, int, int] | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            _remove_stale(self._path, option)
            self.socket.bind(self._path)
            self._file = _identity(self._path)
            if group is not None:
                _give(self._path, group_id, group)
            os.chmod(self._path, mode)  # nobody can connect before the next line
            self.socket.listen(backlog)
        except OSError as error:  # Python raises it without a number if the path is too long
            self.socket.close()
            raise ConfigError(f"{option}: cannot listen on {path}: {error.strerror or error}") from None
        except ConfigError:
            self.socket.close()
            if self._file is not None:
                os.unlink(self._path)
            raise

    @classmethod
    def adopt(cls, path: str, sock: socket.socket) -> UnixListenSocket:
        """Take over a listen socket and its file from the server that this one replaces."""
        adopted = cls.__new__(cls)
        adopted._path = os.path.abspath(path)
        adopted.socket = sock
        try:
            adopted._file = _identity(adopted._path)
        except OSError:
            adopted._file = (0, 0, 0)  # the file was removed
        return adopted

    def move(self, path: str) -> None:
        """Move the file to another path. A server whose file is replaced gets no new connections.

        Raises:
            OSError: the file cannot be moved.
        """
        os.replace(self._path, path)
        self._path = os.path.abspath(path)

    def is_at_path(self) -> bool:
        """Whether the file at the path is still that of this socket."""
        try:
            return _identity(self._path) == self._file
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it."""
        with suppress(OSError):
            if _identity(self._path) == self._file:
                os.unlink(self._path)


def _group_id(name: str) -> int:
    import grp  # Windows has no such module

    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"uds_group: there is no group {name!r}: give the name of one, or its number") from None


def _give(path: str, group_id: int, name: str) -> None:
    try:
        os.chown(path, -1, group_id)
    except (OSError, OverflowError):
        raise ConfigError(
            f"uds_group: this user may not give {path} to the group {name!r}: make the user a member of it"
        ) from None


def _identity(path: str) -> tuple[int, int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns  # inode numbers are reused


def _remove_stale(path: str, option: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{option}: {path} exists and is not a socket: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # a busy server listens
    raise InUse(f"{option}: {path} is already in use: stop the other program, or choose another path")
