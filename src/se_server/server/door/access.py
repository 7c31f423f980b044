"""Who may come in besides the token: addresses, a secret header; and whose word counts for a client's address."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from se_server.errors import ConfigError
from se_server.server.door.handshake import Upgrade
from se_server.server.door.responses import ADDRESS_REFUSED, HEADER_REFUSED, Answer
from se_server.types import Headers

Address = IPv4Address | IPv6Address

UNIX = "unix"  # stands for whoever connects by a Unix socket

_PORT = re.compile(r":[\w.-]{1,32}", re.ASCII)
# RFC 7239, 4: pairs between semicolons make an element, elements stand between commas.
_PAIR = re.compile(
    r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~:\[\]-]+)|"((?:[^"\\]|\\.)*)")[ \t]*([;,]|$)""", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of addresses.

    Attributes:
        blocks: what belongs to it.
        unix: whether peers of a Unix socket do, who have no address.
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
        name: in any case.
        value: a secret.
    """

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"RequiredHeader({self.name})"

    def is_in(self, headers: Headers) -> bool:
        """Whether it came, once, with the value; in a time that tells nothing about the value."""
        values = headers.getall(self.name) or [""]
        right = hmac.compare_digest(values[0].encode("latin-1"), self.value)
        return right and len(values) == 1


class Client(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: None when it is not known.
        text: for people: `host:port`, or without a port that no proxy told; empty when unknown.
    """

    address: Address | None
    text: str


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of an upgrade before its token is looked at.

    Attributes:
        allow: the clients that may come in; empty for all.
        header: what they have to bring; None for nothing.
        trusted: the proxies whose word about their clients' addresses counts.
        proxy_protocol: whether every connection comes from one of them and begins with a PROXY header.

    Raises:
        ConfigError: the PROXY protocol without proxies to trust.
    """

    allow: Networks = Networks()
    header: RequiredHeader | None = None
    trusted: Networks = Networks()
    proxy_protocol: bool = False

    def __post_init__(self) -> None:
        if self.proxy_protocol and not self.trusted:
            raise ConfigError(
                "the PROXY protocol is believed from trusted proxies only: name them, too (trusted_proxies, such as"
                " 10.0.0.0/8)"
            )

    def trusts(self, peer: str) -> bool:
        """Whether a peer, as `host:port` or empty for a Unix socket's, is a trusted proxy."""
        return self.trusted.unix if not peer else _client(peer).address in self.trusted

    def check(self, upgrade: Upgrade) -> tuple[Upgrade, tuple[Answer, str] | None]:
        """Return the upgrade with its client's address, and the answer and the log's reason if it is refused."""
        request = upgrade.request
        if self.allow or self.trusted:
            client = self.client_of(request.remote, request.headers)
            if client.text != request.remote:
                request = replace(request, remote=client.text)
                upgrade = upgrade._replace(request=request)
            if self.allow and client.address not in self.allow:
                return upgrade, (ADDRESS_REFUSED, "allow-ips" if client.address else "its address is not known")
        if self.header is not None and not self.header.is_in(request.headers):
            return upgrade, (HEADER_REFUSED, f"require-header {self.header.name}")
        return upgrade, None

    def client_of(self, peer: str, headers: Headers) -> Client:
        """Find the client behind trusted proxies.

        The proxies nearest to us are the last ones named: names count from the end, up to the first that is no trusted
        proxy. What stands before it may be the client's invention. So may be a whole header, if the proxies know only
        the other one: when the two disagree, or a name is no address, the client's address is unknown.
        """
        near = _client(peer)
        if not self.trusted or not self.trusts(peer):
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
            if client.address not in self.trusted:
                break
        return client


def _client(name: str) -> Client:
    """Read an address as proxies and we ourselves write it: with or without a port, brackets around IPv6."""
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
        elif address.scope_id is not None:  # any text, which is no part of the address
            address = IPv6Address(int(address))
    shown = f"[{address}]" if port and address.version == 6 else str(address)
    return Client(address, shown + port)


def _read_x_forwarded_for(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def _read_forwarded(value: str) -> list[str]:
    """Return what `for` says in each element; one name that is no address if the header is malformed."""
    names, name, place = [], "", 0
    while place < len(value):
        pair = _PAIR.match(value, place)
        if pair is None:
            return [""]  # Guessing at its quotes is what a forger would hope for.
        key, plain, quoted, end = pair.groups()
        if key.lower() == "for":
            name = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";":
            names.append(name)
            name = ""
        place = pair.end()
    return names
