"""Sets of addresses, as `--allow-ips` and `--trusted-proxies` name them, and their readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from se_server.options import read_lines, shown_file

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNIX = "unix"  # the word for all peers of a Unix socket

_EXPECTED = "addresses or blocks of them with commas between them, such as 203.0.113.7,10.0.0.0/8,2001:db8::1"

_Prefixes = tuple[tuple[int, frozenset[int]], ...]
"""For each length of prefix: the bits after it, and the prefixes."""


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of addresses. A look-up takes one step for each length of prefix, however many blocks there are.

    Attributes:
        blocks: the blocks of addresses in the set.
        unix: whether peers of a Unix socket, which have no address, belong to it.
    """

    blocks: tuple[Network, ...] = ()
    unix: bool = False
    _prefixes: tuple[_Prefixes, _Prefixes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefixes = _prefixes_of(self.blocks, 4), _prefixes_of(self.blocks, 6)
        object.__setattr__(self, "_prefixes", prefixes)

    def __contains__(self, address: Address | None) -> bool:
        if address is None:
            return False
        value = int(address)
        return any(value >> shift in found for shift, found in self._prefixes[address.version == 6])

    def __bool__(self) -> bool:
        return self.unix or bool(self.blocks)

    def __repr__(self) -> str:
        return ",".join([*map(str, self.blocks), *([UNIX] if self.unix else [])]) or "none"


def _prefixes_of(blocks: Iterable[Network], version: int) -> _Prefixes:
    found: dict[int, set[int]] = {}
    for block in blocks:
        if block.version == version:
            shift = block.max_prefixlen - block.prefixlen
            found.setdefault(shift, set()).add(int(block.network_address) >> shift)
    return tuple((shift, frozenset(found[shift])) for shift in sorted(found, reverse=True))


def networks(raw: object) -> Networks:
    """Read addresses and blocks of addresses: one text with commas between them, or several texts."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        raise ValueError(_EXPECTED)
    words = [word for item in texts for word in _words(item)]
    if not words or UNIX in words:
        raise ValueError(_EXPECTED)
    return Networks(tuple(map(_block, words)))


def _block(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        wrong = str(error)
    if "host bits set" in wrong:
        raise ValueError(f"{_EXPECTED} ({word} is an address within the block {ip_network(word, strict=False)})")
    numbers = word.rstrip(".").split(".")
    if len(numbers) < 4 and all(number.isdecimal() and int(number) < 256 for number in numbers):
        whole = ".".join(numbers + ["0"] * (4 - len(numbers)))
        raise ValueError(f"{_EXPECTED} ({word} is the beginning of an address: write {whole}/{8 * len(numbers)})")
    raise ValueError(f"{_EXPECTED} ({wrong})")


def _words(text: str) -> Iterator[str]:
    """Yield the words between commas; those of its file for `@FILE`."""
    for word in text.split(","):
        word = word.strip()
        if word.startswith("@"):
            yield from _words_of_file(word[1:])
        elif word:
            yield word


def _words_of_file(name: str) -> list[str]:
    """Return the words of a file, between commas, blanks and line ends; a # begins a comment."""
    expected = "@FILE with addresses or blocks of them, one a line"
    try:
        lines = [line.partition("#")[0] for line in read_lines(name)]
    except ValueError as wrong:
        raise ValueError(f"{expected} ({wrong})") from None
    words = [word for line in lines for word in line.replace(",", " ").split()]
    if not words:  # an empty list would let everybody in
        raise ValueError(f"{expected} ({shown_file(name)} has none)")
    return words


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
