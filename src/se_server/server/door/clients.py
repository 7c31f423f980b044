"""The clients behind proxies: reads `Forwarded` and `X-Forwarded-For`, at a cost that their sender cannot raise.

A header with more than `MAX_NAMES` names, or one longer than `MAX_LIST_CHARS`, names no client. Names are read from the
end, up to the first that is not a trusted proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from se_server.server.door.networks import Address, Networks
from se_server.types import Headers

MAX_NAMES = 32  # proxies between a client and the server; a chain has three or four
MAX_LIST_CHARS = 4096  # of one header, all of its lines together
MAX_NAME_CHARS = 100  # IPv6 with a zone and a port has some 70
MAX_PAIRS = 4 * MAX_NAMES  # RFC 7239 defines four parameters

_PORT = re.compile(r":[\w.-]{1,32}", re.ASCII)
# RFC 7239, 4: pairs between semicolons make an element, elements stand between commas.
_PAIR = re.compile(
    r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~:\[\]-]+)|"([^"\\]*(?:\\.[^"\\]*)*)")[ \t]*([;,]|$)""",
    re.ASCII,
)
_ESCAPED = re.compile(r"\\(.)")
_NO_NAME = ("",)  # the list of names of a header that cannot be read


class Client(NamedTuple):
    """The origin of a request.

    Attributes:
        address: the address; None if it is not known.
        text: the address for people, as `host:port`, or without a port if no proxy named one; empty if not known.
    """

    address: Address | None
    text: str


UNKNOWN_CLIENT = Client(None, "")


def client_named(name: str) -> Client:
    """Read an address with or without a port, and with or without brackets around IPv6."""
    if len(name) > MAX_NAME_CHARS:
        return UNKNOWN_CLIENT
    host, port = name, ""
    if name.startswith("["):
        host, _, port = name[1:].partition("]")
    elif name.count(":") == 1:
        host, _, port = name.partition(":")
        port = ":" + port
    if port and not _PORT.fullmatch(port):
        return UNKNOWN_CLIENT
    try:
        address = ip_address(host)
    except ValueError:
        return UNKNOWN_CLIENT
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.scope_id is not None:  # any text, which is not part of the address
            address = IPv6Address(int(address))
    shown = f"[{address}]" if port and address.version == 6 else str(address)
    return Client(address, shown + port)


def client_behind(near: Client, headers: Headers, trusted: Networks) -> Client:
    """Find the client behind trusted proxies.

    Each proxy appends the address of its peer, so names are read from the end up to the first that is not a trusted
    proxy. Names before it may be forged by the client. A whole header may be forged if the proxies set only the other
    one: when the two disagree, a name is not an address, or there are too many, the client is unknown.

    Args:
        near: the nearest proxy, a trusted one.
    """
    found = {}
    for header, read in (("Forwarded", _read_forwarded), ("X-Forwarded-For", _read_x_forwarded_for)):
        values = headers.getall(header)
        if values:
            client = _walk(near, read(values), trusted)
            found[client.address] = client
    if not found:
        return near
    return found.popitem()[1] if len(found) == 1 else UNKNOWN_CLIENT


def _walk(near: Client, names: Iterable[str], trusted: Networks) -> Client:
    """Return the first client, counted from the nearest, that is not a trusted proxy; else the farthest one."""
    client = near
    for name in names:
        client = client_named(name)
        if client.address not in trusted:
            break
    return client


def _joined(values: list[str]) -> str | None:
    """Join the lines of a header; None if there is more than is read."""
    if sum(map(len, values)) + len(values) > MAX_LIST_CHARS:
        return None
    return ",".join(values)


def _read_x_forwarded_for(values: list[str]) -> Iterable[str]:
    """Return the names from the last to the first."""
    value = _joined(values)
    if value is None or value.count(",") >= MAX_NAMES:
        return _NO_NAME
    return _from_the_end(value)


def _from_the_end(value: str) -> Iterator[str]:
    end = len(value)
    while end >= 0:
        comma = value.rfind(",", 0, end)
        yield value[comma + 1 : end].strip()
        end = comma


def _read_forwarded(values: list[str]) -> Iterable[str]:
    """Return the `for` value of each element, from the last to the first; one empty name if the header is malformed."""
    value = _joined(values)
    if value is None:
        return _NO_NAME
    names: list[str] = []
    name: str | None = None
    place = pairs = 0
    while place < len(value):
        pair = _PAIR.match(value, place)
        pairs += 1
        if pair is None or pairs > MAX_PAIRS:
            return _NO_NAME  # a guess at its quotes would help a forger
        key, plain, quoted, end = pair.groups()
        if key.lower() == "for":
            if name is not None:  # RFC 7239, 4: a parameter occurs once in an element
                return _NO_NAME
            name = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        if end != ";":
            names.append(name or "")
            name = None
            if len(names) > MAX_NAMES:
                return _NO_NAME
        place = pair.end()
    return reversed(names)
