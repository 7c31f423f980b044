"""Access conditions besides the token: client addresses and a secret header; and the addresses behind proxies."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import ClassVar, NamedTuple

from se_server.errors import ConfigError
from se_server.options import flag, option
from se_server.server.door.handshake import Upgrade
from se_server.server.door.responses import ADDRESS_REFUSED, HEADER_REFUSED, Response
from se_server.server.door.routes import ACCESS
from se_server.types import Headers

Address = IPv4Address | IPv6Address

UNIX = "unix"  # the word for all peers of a Unix socket

_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_PORT = re.compile(r":[\w.-]{1,32}", re.ASCII)
# RFC 7239, 4: pairs between semicolons make an element, elements stand between commas.
_PAIR = re.compile(
    r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~:\[\]-]+)|"((?:[^"\\]|\\.)*)")[ \t]*([;,]|$)""", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of addresses.

    Attributes:
        blocks: the blocks of addresses in the set.
        unix: whether peers of a Unix socket, which have no address, belong to it.
    """

    blocks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in block for block in self.blocks)

    def __bool__(self) -> bool:
        return self.unix or bool(self.blocks)

    def __repr__(self) -> str:
        return ",".join([*map(str, self.blocks), *([UNIX] if self.unix else [])]) or "none"


@dataclass(frozen=True, slots=True, repr=False)
class RequiredHeader:
    """A header that every upgrade must carry.

    Attributes:
        name: the name of the header, in any case.
        value: the secret value.
    """

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"RequiredHeader({self.name})"

    def is_in(self, headers: Headers) -> bool:
        """Return whether the header came once and with the value; takes constant time."""
        values = headers.getall(self.name) or [""]
        right = hmac.compare_digest(values[0].encode("latin-1"), self.value)
        return right and len(values) == 1


class Client(NamedTuple):
    """The origin of a request.

    Attributes:
        address: the address; None if it is not known.
        text: the address for people, as `host:port`, or without a port if no proxy named one; empty if not known.
    """

    address: Address | None
    text: str


def networks(raw: object) -> Networks:
    """Read addresses and blocks of addresses: one text with commas between them, or several texts."""
    expected = "addresses or blocks of them with commas between them, such as 10.0.0.0/8,2001:db8::1"
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        raise ValueError(expected)
    words = [word.strip() for item in texts for word in item.split(",") if word.strip()]
    if not words or UNIX in words:
        raise ValueError(expected)
    try:
        return Networks(tuple(ip_network(word) for word in words))
    except ValueError as error:
        wrong = str(error)
        raise ValueError(f"{expected} ({wrong})") from None


def proxies(raw: object) -> Networks:
    """Read like `networks`; the word `unix` stands for all peers of the Unix socket."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        return networks(raw)
    words = [word.strip() for item in texts for word in item.split(",")]
    others = [word for word in words if word.lower() != UNIX]
    if len(others) == len(words):
        return networks(raw)
    return Networks(networks(others).blocks if any(others) else (), unix=True)


def required_header(raw: object) -> RequiredHeader:
    """Read NAME=VALUE."""
    name, _, value = raw.partition("=") if isinstance(raw, str) else ("", "", "")
    name, value = name.strip(), value.strip()
    printable = value.isprintable() and value.isascii()
    if not _HEADER_NAME.fullmatch(name) or not value or not printable:
        raise ValueError("NAME=VALUE, the name of a header and its value in printable ASCII")
    return RequiredHeader(name, value.encode())


@dataclass(frozen=True, slots=True)
class Access:
    """Conditions that a connection and an upgrade request meet before the token is verified.

    Attributes:
        allow_ips: the clients that may hold conversations; empty for all.
        require_header: the header that their requests carry; None for none.
        trusted_proxies: the proxies that are believed about their clients' addresses.
        proxy_protocol: whether every connection comes from such a proxy and begins with a PROXY header.

    Raises:
        ConfigError: the PROXY protocol without trusted proxies.
    """

    HEADING: ClassVar[str] = ACCESS

    allow_ips: Networks = option(
        Networks(),
        networks,
        "Accept conversations from these addresses only. Health checks are answered everywhere.",
        "CIDR,...",
        default_text="all",
        repeatable=True,
    )
    require_header: RequiredHeader | None = option(
        None,
        required_header,
        "Accept only conversations whose request has this header. Prefer the environment or a file for it.",
        "NAME=VALUE",
        secret=True,
    )
    trusted_proxies: Networks = option(
        Networks(),
        proxies,
        "Believe these proxies about their clients' addresses (Forwarded, X-Forwarded-For).",
        "CIDR,...",
        default_text="none",
        repeatable=True,
    )
    proxy_protocol: bool = option(
        False,
        flag,
        "Expect the PROXY protocol, version 1 or 2, and accept connections from the trusted proxies only.",
    )

    def __post_init__(self) -> None:
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError(
                "the PROXY protocol is believed from trusted proxies only: name them, too (trusted_proxies, such as"
                " 10.0.0.0/8)"
            )

    def trusts(self, peer: str) -> bool:
        """Return whether a peer (`host:port`, or empty for a Unix socket) is a trusted proxy."""
        return self.trusted_proxies.unix if not peer else _client(peer).address in self.trusted_proxies

    def check(self, upgrade: Upgrade) -> tuple[Upgrade, tuple[Response, str] | None]:
        """Return the upgrade with its client's address, and the response and the reason to log if it is refused."""
        request = upgrade.request
        if self.allow_ips or self.trusted_proxies:
            client = self.client_of(request.remote, request.headers)
            if client.text != request.remote:
                request = replace(request, remote=client.text)
                upgrade = upgrade._replace(request=request)
            if self.allow_ips and client.address not in self.allow_ips:
                return upgrade, (ADDRESS_REFUSED, "allow-ips" if client.address else "its address is not known")
        if self.require_header is not None and not self.require_header.is_in(request.headers):
            return upgrade, (HEADER_REFUSED, f"require-header {self.require_header.name}")
        return upgrade, None

    def client_of(self, peer: str, headers: Headers) -> Client:
        """Find the client behind trusted proxies.

        Each proxy appends the address of its peer, so names are read from the end up to the first that is not a trusted
        proxy. Names before it may be forged by the client. A whole header may be forged if the proxies set only the
        other one: when the two disagree, or a name is not an address, the client's address is unknown.
        """
        near = _client(peer)
        if not self.trusted_proxies or not self.trusts(peer):
            return near
        found = {}
        for name, read in (("Forwarded", _read_forwarded), ("X-Forwarded-For", _read_x_forwarded_for)):
            values = headers.getall(name)
            if values:
                client = self._walk(near, read(",".join(values)))
                found[client.address] = client
        if not found:
            return near
        return found.popitem()[1] if len(found) == 1 else Client(None, peer)

    def _walk(self, near: Client, names: list[str]) -> Client:
        client = near
        for name in reversed(names):
            client = _client(name)
            if client.address is None:
                return Client(None, near.text)
            if client.address not in self.trusted_proxies:
                break
        return client


def _client(name: str) -> Client:
    """Read an address with or without a port, and with or without brackets around IPv6."""
    host, port = name, ""
    if name.startswith("["):
        host, _, port = name[1:].partition("]")
    elif name.count(":") == 1:
        host, _, port = name.partition(":")
        port = ":" + port
    if port and not _PORT.fullmatch(port):
        return Client(None, "")
    try:
        address = ip_address(host)
    except ValueError:
        return Client(None, "")
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.scope_id is not None:  # any text, which is not part of the address
            address = IPv6Address(int(address))
    shown = f"[{address}]" if port and address.version == 6 else str(address)
    return Client(address, shown + port)


def _read_x_forwarded_for(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def _read_forwarded(value: str) -> list[str]:
    """Return the `for` value of each element; one name that is not an address if the header is malformed."""
    names, name, place = [], "", 0
    while place < len(value):
        pair = _PAIR.match(value, place)
        if pair is None:
            return [""]  # a guess at its quotes would help a forger
        key, plain, quoted, end = pair.groups()
        if key.lower() == "for":
            name = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";":
            names.append(name)
            name = ""
        place = pair.end()
    return names
