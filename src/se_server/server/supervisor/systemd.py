"""The two protocols of systemd: socket activation (sd_listen_fds(3)) and state notification (sd_notify(3)).

Without the environment variables of systemd, this module does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping, Sequence

from se_server.errors import ConfigError

FIRST_DESCRIPTOR = 3


def take_activated(environ: MutableMapping[str, str]) -> list[int]:
    """Return the descriptors that the service manager passed to this process, and remove its environment variables.

    Raises:
        ConfigError: LISTEN_FDS is not a number.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return []
    if not (count.isascii() and count.isdecimal()):
        raise ConfigError(f"LISTEN_FDS={count!r} in the environment is not a number of sockets")
    return list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))


def inherit_sockets(descriptors: Sequence[int], source: str) -> list[socket.socket]:
    """Make listen sockets from descriptors that this process inherited; the caller owns them.

    Args:
        source: the option or variable that named the descriptors, for errors.

    Raises:
        ConfigError: a descriptor is not a listening stream socket.
    """
    sockets: list[socket.socket] = []
    try:
        for descriptor in dict.fromkeys(descriptors):
            try:
                sockets.append(socket.socket(fileno=descriptor))
            except OSError:
                raise ConfigError(f"{source}: descriptor {descriptor} is not an open socket") from None
            _prepare(sockets[-1], source)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _prepare(sock: socket.socket, source: str) -> None:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    if sock.type != socket.SOCK_STREAM or not (is_tcp or sock.family == socket.AF_UNIX):
        raise ConfigError(f"{source}: descriptor {sock.fileno()} is not a TCP or Unix stream socket")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError(f"{source}: descriptor {sock.fileno()} does not listen: call listen() on it first")
    sock.setblocking(False)
    sock.set_inheritable(False)
    if is_tcp:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as on sockets that we bind ourselves


class Notifier:
    """Reports the state of the server to the service manager.

    Args:
        environ: the environment of this process. The variables of the protocol are removed from it, so that workers
            and programs that they start do not report anything.

    Attributes:
        alive_s: the interval at which the manager expects `alive`, in seconds; None for never.
        is_managed: whether there is a manager.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        timeout, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self.alive_s: float | None = None
        if self._address and timeout.isdecimal() and int(timeout) > 0 and pid in ("", str(os.getpid())):
            self.alive_s = int(timeout) / 1e6 / 2  # as sd_watchdog_enabled(3) recommends
        self.variables = {
            name: value for name, value in (("NOTIFY_SOCKET", self._address), ("WATCHDOG_USEC", timeout)) if value
        }
        """The variables that the next supervisor needs in its environment."""
        self.is_managed = bool(self._address)

    def send(self, *assignments: str) -> None:
        """Send `NAME=value` lines in one datagram. Errors are ignored: the manager may not be listening."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(assignments).encode(), address)
            except OSError:
                return

    def ready(self, status: str) -> None:
        """Report that the service serves, after a start or a reload."""
        self.send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that a reload begins."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self.send("STOPPING=1", "STATUS=draining")

    def handed_over(self, pid: int) -> None:
        """Report that another process is the main process of the service."""
        self.send(f"MAINPID={pid}")

    def alive(self) -> None:
        """Report that the supervisor is alive."""
        self.send("WATCHDOG=1")
