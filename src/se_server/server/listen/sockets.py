"""Bind the listen sockets, once, before any worker exists."""

from __future__ import annotations

import errno
import socket
from typing import Any

from se_server.errors import ConfigError

BACKLOG = 4096  # room for a burst while the loop is busy; the kernel caps it at net.core.somaxconn

_PORT_0_TRIES = 16  # the kernel picks a port that is free on IPv4; rarely it is in use on IPv6
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class InUse(ConfigError):
    """Another process has the address, or the file: a server that this one may replace."""


def url_of(host: str | None, port: int, *, is_tls: bool) -> str:
    """Return the URL of a server without a path; one that listens on all interfaces is shown on this machine's own."""
    host = host or "127.0.0.1"
    return f"{'wss' if is_tls else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}"


def bind(host: str | None, port: int, *, backlog: int = BACKLOG) -> list[socket.socket]:
    """Bind and listen on every address of `host`, all on the same port.

    Args:
        host: a name or an address; None or "" for all interfaces, IPv4 and IPv6.
        port: 0 to 65535; with 0 the kernel chooses, and all sockets share its choice.
        backlog: connections that the kernel holds until they are accepted.

    Returns:
        Non-blocking listen sockets, IPv4 first, owned by the caller. A machine without IPv6 gives IPv4 ones only.

    Raises:
        ConfigError: the address cannot be used; the text gives the reason and the way out.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port} does not exist: choose 0 to 65535")
    addresses = resolve(host, port)
    tries_left = _PORT_0_TRIES if port == 0 else 1
    while True:
        tries_left -= 1
        try:
            return _bind_all(addresses, port, backlog)
        except OSError as error:
            if tries_left and error.errno == errno.EADDRINUSE:
                continue
            is_taken = error.errno == errno.EADDRINUSE
            raise (InUse if is_taken else ConfigError)(_sentence(host, port, error)) from error


def address_of(sock: socket.socket, *, tls: bool) -> str:
    """Return the address of a listen socket, as a client would name it before the path."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    name, port = sock.getsockname()[:2]
    return f"{'wss' if tls else 'ws'}://{f'[{name}]' if ':' in name else name}:{port}"


def resolve(host: str | None, port: int) -> list[_Address]:
    """Return the addresses of a host, IPv4 first; None or "" is all interfaces.

    Raises:
        ConfigError: the host is unknown.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"host {host!r} is unknown: name an address of this machine") from error
    wanted: dict[_Address, None] = {}
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            wanted[socket.AddressFamily(family), address] = None
    return sorted(wanted, key=lambda item: item[0] != socket.AF_INET)


def _bind_all(addresses: list[_Address], port: int, backlog: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            try:
                sock = _listen(family, (address[0], port, *address[2:]), backlog)
            except OSError as error:
                # IPv6 is compiled in but switched off: serve IPv4 alone.
                if sockets and error.errno in _NO_SUCH_FAMILY:
                    continue
                raise
            sockets.append(sock)
            port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: socket.AddressFamily, address: tuple[Any, ...], backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit the option, which saves a system call per connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _sentence(host: str | None, port: int, error: OSError) -> str:
    where = f"{host or 'all interfaces'}, port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is already in use: stop the other program, or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} needs privileges that this process does not have: choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where} cannot be bound, since this machine has no such address: choose another host"
    return f"{where} cannot be bound ({error.strerror}): choose another host or port"
