"""The header of the PROXY protocol, versions 1 and 2, without I/O: bytes in, the client's address out.

The protocol is HAProxy's, https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; sections are cited by number.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

LOCAL = "local"
"""Instead of an address: the proxy itself connects, as for its health checks (2.2)."""

UNKNOWN = "unknown"
"""Instead of an address: the client has none, or the proxy does not pass it on."""

MAX_V1_BYTES = 107  # 2.1, with the CRLF
MAX_V2_BYTES = 4096  # addresses take 232 bytes at most; the rest are extensions (2.2.1 ff.), which are skipped

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES = 16

_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_ADDRESS_BYTES = {0x1: 12, 0x2: 36, 0x3: 216}  # 2.2: addresses and ports of IPv4, IPv6 and Unix sockets
_TCP4, _TCP6 = 0x11, 0x21


class ProxyHeaderError(ValueError):
    """The data is not a PROXY header; the text gives the reason without the data."""


class ProxyHeader:
    """Reads the header at the beginning of a connection.

    Attributes:
        client: None until the header is whole; then `host:port`, `LOCAL` or `UNKNOWN`.
    """

    __slots__ = ("_data", "client")

    def __init__(self) -> None:
        self._data = b""
        self.client: str | None = None

    def feed(self, data: bytes) -> int:
        """Take the next bytes and return the number of those that belong to the header.

        After an error, or when `client` is set, feed nothing more.

        Raises:
            ProxyHeaderError: the data is not a PROXY header.
        """
        before = len(self._data)
        if before + len(data) > MAX_V2_BYTES:
            data = data[: MAX_V2_BYTES - before]
        data = self._data + data
        if data[:1] == _V1[:1]:
            taken = self._read_line(data)
        elif data.startswith(_V2[: len(data)]):
            taken = self._read_block(data)
        elif not data:
            taken = 0
        else:
            raise ProxyHeaderError("it does not begin with one")
        self._data = data[:taken]
        return taken - before

    def _read_line(self, data: bytes) -> int:
        if not data.startswith(_V1[: len(data)]):
            raise ProxyHeaderError("it does not begin with one")
        end = data.find(b"\n", 0, MAX_V1_BYTES) + 1
        if not end:
            if len(data) >= MAX_V1_BYTES:
                raise ProxyHeaderError(f"its line is longer than {MAX_V1_BYTES} bytes")
            return len(data)
        line = data[:end]
        if _UNKNOWN_LINE.fullmatch(line):
            self.client = UNKNOWN
            return end
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProxyHeaderError("its line is malformed")
        version, *addresses, source_port, port = (part.decode("ascii") for part in match.groups())
        kind = IPv4Address if version == "4" else IPv6Address
        try:
            source, _ = (kind(address) for address in addresses)
        except AddressValueError:
            raise ProxyHeaderError("its line holds a malformed address") from None
        if any((len(text) > 1 and text[0] == "0") or int(text) > 65535 for text in (source_port, port)):
            raise ProxyHeaderError("its line holds a malformed port")
        self.client = _text(source, int(source_port))
        return end

    def _read_block(self, data: bytes) -> int:
        if len(data) < _V2_FIXED_BYTES:
            return len(data)
        command, family = data[12], data[13]
        length = int.from_bytes(data[14:16], "big")
        if command not in (0x20, 0x21):
            raise ProxyHeaderError("its version or command is unknown")
        if family >> 4 > 0x3 or family & 0xF > 0x2:
            raise ProxyHeaderError("its address family or protocol is unknown")
        end = _V2_FIXED_BYTES + length
        if end > MAX_V2_BYTES:
            raise ProxyHeaderError(f"it is longer than {MAX_V2_BYTES} bytes")
        is_local = command == 0x20
        if not is_local and length < _ADDRESS_BYTES.get(family >> 4, 0):
            raise ProxyHeaderError("it is too short for its addresses")
        if len(data) < end:
            return len(data)
        self.client = LOCAL if is_local else _source(family, data[_V2_FIXED_BYTES:end])
        return end


def _source(family: int, block: bytes) -> str:
    if family == _TCP4:
        return _text(IPv4Address(block[:4]), int.from_bytes(block[8:10], "big"))
    if family == _TCP6:
        return _text(IPv6Address(block[:16]), int.from_bytes(block[32:34], "big"))
    return UNKNOWN


def _text(address: IPv4Address | IPv6Address, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
