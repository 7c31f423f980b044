"""Listen sockets: every address, one port, sentences for what goes wrong."""

from __future__ import annotations

import os
import socket

import pytest

from se_server.errors import ConfigError
from se_server.server.listen import sockets


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 here")


def test_loopback_on_a_port_of_the_kernels_choice() -> None:
    [sock] = sockets.bind("127.0.0.1", 0)
    with sock:
        host, port = sock.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        assert not sock.getblocking()
        with socket.create_connection((host, port)):
            pass


@needs_ipv6
@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces_share_one_port_for_both_families(host: str | None) -> None:
    both = sockets.bind(host, 0)
    try:
        assert [sock.family for sock in both] == [socket.AF_INET, socket.AF_INET6]
        [port] = {sock.getsockname()[1] for sock in both}
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port)):
                pass
    finally:
        for sock in both:
            sock.close()


@needs_ipv6
def test_ipv6_address() -> None:
    [sock] = sockets.bind("::1", 0)
    with sock, socket.create_connection(sock.getsockname()[:2]):
        assert sock.family == socket.AF_INET6


@needs_ipv6
def test_port_zero_skips_ports_taken_on_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen(1)
        unlucky = taken.getsockname()[1]
        real_listen = sockets._listen
        asked: list[int] = []

        def listen(family: socket.AddressFamily, address: tuple[object, ...], backlog: int) -> socket.socket:
            if not asked:  # The kernel's first choice is the unlucky one.
                address = (address[0], unlucky, *address[2:])
            asked.append(address[1])  # type: ignore[arg-type]
            return real_listen(family, address, backlog)

        monkeypatch.setattr(sockets, "_listen", listen)
        both = sockets.bind(None, 0)
    [port] = {sock.getsockname()[1] for sock in both}
    for sock in both:
        sock.close()
    assert asked[:2] == [unlucky, unlucky]
    assert port != unlucky


def test_accepted_connections_inherit_nodelay() -> None:
    [sock] = sockets.bind("127.0.0.1", 0)
    with sock, socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_port_in_use_is_one_sentence() -> None:
    [sock] = sockets.bind("127.0.0.1", 0)
    with sock:
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1, port {port} is already in use.*another port"):
            sockets.bind("127.0.0.1", port)


def test_port_is_free_at_once_after_a_connection() -> None:
    [sock] = sockets.bind("127.0.0.1", 0)
    host, port = sock.getsockname()
    sock.setblocking(True)
    with sock, socket.create_connection((host, port)):
        accepted, _ = sock.accept()
        accepted.close()  # The server's side closes first: TIME_WAIT is on our port.
    [sock] = sockets.bind(host, port)
    sock.close()


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("no-such-host.invalid", 0, "host 'no-such-host.invalid' is unknown.*this machine"),
        ("192.0.2.1", 0, "192.0.2.1, port 0 cannot be bound, since this machine has no such address.*another host"),
        ("127.0.0.1", 65536, "port 65536 does not exist.*0 to 65535"),
        ("127.0.0.1", -1, "port -1 does not exist.*0 to 65535"),
    ],
)
def test_bad_addresses_are_one_sentence(host: str, port: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        sockets.bind(host, port)
    assert "\n" not in str(caught.value)


def test_missing_privileges_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(sockets, "_listen", refuse)  # Tests may run as root, who may bind any port.
    with pytest.raises(ConfigError, match=r"all interfaces, port 80 needs privileges.*above 1023"):
        sockets.bind(None, 80)


def test_nothing_stays_open_when_one_address_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    real_listen = sockets._listen

    def listen(family: socket.AddressFamily, address: tuple[object, ...], backlog: int) -> socket.socket:
        if opened:
            raise PermissionError(13, os.strerror(13))
        opened.append(real_listen(family, address, backlog))
        return opened[0]

    monkeypatch.setattr(sockets, "_listen", listen)
    monkeypatch.setattr(
        sockets,
        "resolve",
        lambda host, port: [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET, ("127.0.0.2", port))],
    )
    with pytest.raises(ConfigError):
        sockets.bind("127.0.0.1", 0)
    assert opened[0].fileno() == -1
