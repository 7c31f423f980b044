"""Where a WebSocket server is: what a `ws://` or `wss://` URL says."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit


class AddressError(ValueError):
    """A text that is no address of a WebSocket."""


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        is_tls: whether TLS is to be spoken.
        host, port: whom to connect to.
        target: path and query, as the request line has them.
    """

    is_tls: bool
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a `ws://` or `wss://` address.

        Raises:
            AddressError: it is none; the sentence says what is wrong.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressError(f"{url!r} is no address: {error}") from None
        if parts.scheme in ("http", "https"):
            wanted = url.replace("http", "ws", 1)
            raise AddressError(f"{url} is the address of a web page: write {wanted}")
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise AddressError(f"{url!r} is no WebSocket address: it looks like ws://127.0.0.1:3001/ws")
        if re.search(r"[\x00-\x20\x7f]", url) or not parts.path.isascii() or not parts.query.isascii():
            raise AddressError(f"{url!r} is no address: it has blanks or letters that have to be escaped (%20)")
        is_tls = parts.scheme == "wss"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(is_tls, parts.hostname, port or (443 if is_tls else 80), target)

    @property
    def is_loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    def at(self, target: str) -> Address:
        """Return the same server at another path."""
        return replace(self, target=target)

    @property
    def host_header(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"
