"""The two protocols of systemd: sockets that it has opened, and what it wants to hear (sd_listen_fds(3), sd_notify(3)).

Without systemd, that is without its variables, nothing of this does anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping, Sequence

from se_server.errors import ConfigError

FIRST_DESCRIPTOR = 3


def take_activated(environ: MutableMapping[str, str]) -> list[int]:
    """Return the descriptors that the service manager has passed to this very process, and forget its variables.

    Raises:
        ConfigError: the variables make no sense.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return []
    if not (count.isascii() and count.isdecimal()):
        raise ConfigError(f"LISTEN_FDS={count!r} in the environment is no number of sockets")
    return list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))


def adopt(descriptors: Sequence[int], where: str) -> list[socket.socket]:
    """Make listen sockets of descriptors that this process was started with; owned by the caller.

    Args:
        where: what named them, for errors.

    Raises:
        ConfigError: one of them is no listening stream socket.
    """
    sockets: list[socket.socket] = []
    try:
        for descriptor in dict.fromkeys(descriptors):
            try:
                sockets.append(socket.socket(fileno=descriptor))
            except OSError:
                raise ConfigError(f"{where}: descriptor {descriptor} is no open socket") from None
            _prepare(sockets[-1], where)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _prepare(sock: socket.socket, where: str) -> None:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    if sock.type != socket.SOCK_STREAM or not (is_tcp or sock.family == socket.AF_UNIX):
        raise ConfigError(f"{where}: descriptor {sock.fileno()} is no TCP or Unix stream socket")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError(f"{where}: descriptor {sock.fileno()} does not listen: call listen() on it first")
    sock.setblocking(False)
    sock.set_inheritable(False)
    if is_tcp:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as on sockets that we bind ourselves


class Notifier:
    """Tells the service manager about the state of the whole.

    Args:
        environ: the process's environment, whose variables of this protocol are removed: workers have nothing to say.

    Attributes:
        alive_s: how often it wants a sign of life, in seconds; None for never.
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
        """What a supervisor that follows needs in its environment."""

    def send(self, *assignments: str) -> None:
        """Send `NAME=value` lines in one datagram; a manager that does not listen misses them."""
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
        """Say that the service serves, after a start or a reload."""
        self.send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """Say that the service ends."""
        self.send("STOPPING=1", "STATUS=draining")

    def handed_over(self, pid: int) -> None:
        """Say that another process is the service's main one."""
        self.send(f"MAINPID={pid}")

    def alive(self) -> None:
        """Give a sign of life."""
        self.send("WATCHDOG=1")
