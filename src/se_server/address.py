"""The address of a WebSocket server, read from a `ws://` or `wss://` URL."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

_HOST_ALONE = re.compile(r"(?!wss?:)(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w.-]+(?=:))(:\d+)?(/[^\s:]*)?", re.ASCII)
_DOMAIN = re.compile(r"[\w.-]+\.[a-z]{2,}(?![\w.])", re.ASCII | re.IGNORECASE)


_LOGIN = re.compile(r"(?<=/)[^/?#@\s]*:[^/?#@\s]*@|(?<=//)[^/?#@\s]+@")
_QUERY_VALUE = re.compile(r"(?<=[?&])([^=&#\s]*)=[^&#\s]*")


def shown(url: str) -> str:
    """Return an address as outputs and errors show it: without a login, and without the values of its query."""
    return _QUERY_VALUE.sub(r"\1=***", _LOGIN.sub("***@", url))


class AddressError(ValueError):
    """A text that is not the address of a WebSocket."""


@dataclass(frozen=True)
class Address:
    """The address of a server.

    Attributes:
        is_tls: whether the server speaks TLS.
        host, port: the host and port to connect to.
        target: path and query, as in the request line.
    """

    is_tls: bool
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a `ws://` or `wss://` address.

        Raises:
            AddressError: the text is not such an address; one sentence.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressError(f"{shown(url)!r} is not an address: {error}") from None
        if parts.scheme in ("http", "https"):
            wanted = url.replace("http", "ws", 1)
            raise AddressError(f"{shown(url)} is the address of a web page: write {shown(wanted)}")
        if _HOST_ALONE.fullmatch(url):
            scheme = "wss" if _DOMAIN.match(url) else "ws"
            named = shown(url)
            raise AddressError(f"{named} has no scheme: write {scheme}://{named}" + ("" if "/" in url else "/ws"))
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise AddressError(f"{shown(url)!r} is not a WebSocket address: it looks like ws://127.0.0.1:3001/ws")
        if re.search(r"[\x00-\x20\x7f]", url) or not parts.path.isascii() or not parts.query.isascii():
            raise AddressError(
                f"{shown(url)!r} is not an address: it has blanks or letters that have to be escaped (%20)"
            )
        if "@" in parts.netloc:
            raise AddressError("the login in an address is not sent: give it as a header, Authorization: Basic ...")
        is_tls = parts.scheme == "wss"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(is_tls, parts.hostname, port or (443 if is_tls else 80), target)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
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
