"""A pidfile that is never wrong: the supervisor that it names holds a lock on it for as long as it lives."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress

from se_server.errors import ConfigError
from se_server.server.listen.sockets import InUse
from se_server.server.shared.safe_paths import kind_of, resolve

MAX_BYTES = 20


class PidFile:
    """Writes this process's id to a file and holds it.

    The system releases the lock when the process ends in any way. A file without a lock is stale and is overwritten.

    Args:
        path: the path of the file.
        inherited: the descriptor of the locked file, from the previous supervisor. The file names that process until
            `write` is called.

    Raises:
        ConfigError: another server holds the file, or it cannot be written.
    """

    def __init__(self, path: str, inherited: int | None = None) -> None:
        self._path = os.path.abspath(path)  # user code may change the directory
        self._is_written = inherited is not None
        self._descriptor = self._lock() if inherited is None or not self._is_at_path(inherited) else inherited

    def fileno(self) -> int:
        """Return the descriptor, for the next supervisor."""
        return self._descriptor

    def _lock(self) -> int:
        while True:
            try:
                descriptor = self._open()
            except OSError as error:
                raise ConfigError(f"--pidfile: cannot write {self._path}: {error.strerror}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(descriptor, MAX_BYTES).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise InUse(
                    f"--pidfile: {self._path} is held by the running process {holder}: stop it, or choose another file"
                ) from None
            if self._is_at_path(descriptor):
                return descriptor
            os.close(descriptor)  # its owner has removed the file meanwhile

    def _open(self) -> int:
        """Open the file, or make it.

        Raises:
            OSError: it cannot be opened, or is something else than a pidfile: writing to it would do harm.
        """
        folder, name = os.path.split(self._path)
        path = os.path.join(resolve(folder), name)
        # Without O_NONBLOCK, a device or a FIFO could block.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError:
            with suppress(FileNotFoundError):
                if kind := kind_of(os.lstat(path)):
                    raise OSError(errno.EINVAL, f"it is a {kind}") from None
            raise
        try:
            seen = os.fstat(descriptor)
            if kind := kind_of(seen):
                raise OSError(errno.EINVAL, f"it is a {kind}")
            if seen.st_nlink > 1:
                raise OSError(errno.EINVAL, f"it has {seen.st_nlink} hard links")
            text = os.pread(descriptor, MAX_BYTES + 1, 0).strip()
            if text and not (text.isdigit() and len(text) <= MAX_BYTES):
                raise OSError(errno.EINVAL, "it holds something else than a process id")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def write(self) -> None:
        """Write this process's id."""
        self._is_written = True
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path, follow_symlinks=False))
        except OSError:
            return False

    def remove(self) -> None:
        """Release the file, and remove it if it names this process, or none yet, and not the next supervisor."""
        with suppress(OSError):
            own = b"%d\n" % os.getpid() if self._is_written else b""
            if self._is_at_path(self._descriptor) and os.pread(self._descriptor, MAX_BYTES, 0) == own:
                os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Release the file; in a worker, its copy of the lock."""
        os.close(self._descriptor)
