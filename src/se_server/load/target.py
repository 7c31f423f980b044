"""The server under load: its addresses, TLS, the upgrade request, and checks of the answer."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
import time
from typing import Any

from se_server.address import Address
from se_server.auth import AUTHORIZATION_HEADER, sign_token
from se_server.client_tls import ClientTls
from se_server.errors import LoadError
from se_server.load.plan import LoadPlan

__all__ = ["Target"]

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_TOKEN_AGE_S = 120.0  # servers accept tokens for 5 minutes, and their clock may be a minute off


class Target:
    """The server that a plan names.

    Attributes:
        addresses: (family, socket address) pairs, in the resolver's order.
        context: the TLS context; None for `ws://`.
        host: the name that the certificate has to match.

    Raises:
        AddressError: the URL is not valid.
        ConfigError: a certificate cannot be read.
        LoadError: the host is unknown.
    """

    def __init__(self, plan: LoadPlan) -> None:
        address = Address.of(plan.url)
        self.host = address.host
        tls = ClientTls(plan.cafile, plan.insecure, plan.cert, plan.key)
        self.context = tls.context() if address.is_tls else None
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise LoadError(f"there is no host {address.host!r} ({error})") from None
        self.addresses: list[tuple[int, Any]] = list(dict.fromkeys((int(entry[0]), entry[4]) for entry in found))
        self._api_key = plan.api_key
        self._head = f"GET {address.target} HTTP/1.1\r\nHost: {address.host_header}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in plan.headers
        )
        self._signed_at = -_TOKEN_AGE_S
        self._before_key = b""

    def upgrade(self) -> tuple[bytes, bytes]:
        """Return an upgrade request and the key in it."""
        now = time.monotonic()
        if now - self._signed_at >= _TOKEN_AGE_S:
            self._signed_at = now
            token = "" if self._api_key is None else f"{AUTHORIZATION_HEADER}: {sign_token(self._api_key)}\r\n"
            self._before_key = (
                f"{self._head}{token}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: "
            ).encode("latin-1")
        key = base64.b64encode(secrets.token_bytes(16))
        return b"%b%b\r\n\r\n" % (self._before_key, key), key


def what_is_wrong(head: bytes, key: bytes) -> tuple[str, str] | None:
    """Return (kind, sentence) for an answer that is not an upgrade (RFC 6455, 4.1); None for a valid one.

    Args:
        head: the answer's head, with its final empty line.
        key: the key of the request.
    """
    found = re.match(rb"HTTP/1\.1 (\d{3})\b", head)
    if found is None:
        return "no HTTP", f"the server answered {head[:40]!r}"
    if found[1] != b"101":
        return f"HTTP {found[1].decode()}", f"the server answered the upgrade with HTTP {found[1].decode()}"
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest())
    if headers.get(b"sec-websocket-accept") != accept:
        return "upgrade", "the 101 has a wrong Sec-WebSocket-Accept"
    if (
        headers.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in headers.get(b"connection", b"").lower()
    ):
        return "upgrade", "the 101 does not say `Upgrade: websocket` and `Connection: Upgrade`"
    if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
        return "upgrade", "the 101 chose an extension or a protocol that was not offered"
    return None
