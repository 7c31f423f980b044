"""PROXY headers are read however they are cut, and no byte after them is consumed."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_server.server.listen.proxy import LOCAL, MAX_V1_BYTES, MAX_V2_BYTES, UNKNOWN, ProxyHeader, ProxyHeaderError

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")  # as in the protocol's specification

ports = st.integers(0, 65535)
tails = st.binary(max_size=300)


def text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@st.composite
def lines(draw: st.DrawFn) -> tuple[bytes, str]:
    version = draw(st.sampled_from([4, 6]))
    source, target = draw(st.ip_addresses(v=version)), draw(st.ip_addresses(v=version))
    source_port, port = draw(ports), draw(ports)
    return f"PROXY TCP{version} {source} {target} {source_port} {port}\r\n".encode(), text(str(source), source_port)


def block(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(payload)) + payload


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, str]:
    extensions = draw(st.binary(max_size=600))
    kind = draw(st.sampled_from(["local", "unix", "unspecified", "4", "6"]))
    if kind == "local":
        return block(0, draw(st.sampled_from([0, 0x11])), extensions), LOCAL
    if kind == "unix":
        return block(1, 0x31, bytes(216) + extensions), UNKNOWN
    if kind == "unspecified":
        return block(1, 0, extensions), UNKNOWN
    version = int(kind)
    source, target = draw(st.ip_addresses(v=version)), draw(st.ip_addresses(v=version))
    source_port, port = draw(ports), draw(ports)
    family, of_socket = (0x11, socket.AF_INET) if version == 4 else (0x21, socket.AF_INET6)
    addresses = b"".join(socket.inet_pton(of_socket, str(address)) for address in (source, target))
    payload = addresses + struct.pack("!HH", source_port, port) + extensions
    return block(1, family, payload), text(str(source), source_port)


def read(pieces: list[bytes]) -> tuple[str | None, bytes]:
    """Read as from a socket: bytes that are not consumed come again, together with new ones."""
    header, waiting, taken = ProxyHeader(), b"", 0
    for piece in pieces:
        waiting += piece
        if header.client is None:
            count = header.feed(waiting)
            assert 0 <= count <= len(waiting)
            waiting = waiting[count:]
            taken += count
    return header.client, waiting


@given(lines() | blocks(), tails, st.data())
def test_a_header_is_read_however_it_is_cut(said: tuple[bytes, str], tail: bytes, data: st.DataObject) -> None:
    sent, client = said
    whole = sent + tail
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]
    assert read(pieces) == (client, tail)


@given(lines() | blocks())
def test_an_unfinished_header_is_consumed(said: tuple[bytes, str]) -> None:
    """Bytes left in the socket would wake its reader again at once."""
    sent = said[0]
    for end in range(1, min(len(sent), 300)):
        header = ProxyHeader()
        assert (header.feed(sent[:end]), header.client) == (end, None)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_garbage_fails_or_waits_within_bounds(garbage: bytes, start: bytes) -> None:
    header = ProxyHeader()
    try:
        taken = header.feed(start + garbage)
    except ProxyHeaderError:
        return
    assert taken <= MAX_V2_BYTES
    if header.client not in (None, LOCAL, UNKNOWN):
        host, _, port = str(header.client).rpartition(":")
        assert ip_address(host.strip("[]")) is not None
        assert 0 <= int(port) <= 65535


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    ],
)
def test_the_forms_of_the_protocols_text_are_taken(line: bytes) -> None:
    header = ProxyHeader()
    assert header.feed(line + b"GET /") == len(line) <= MAX_V1_BYTES
    assert header.client is not None


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET /healthz HTTP/1.1\r\n", "does not begin with one"),
        (b"\x16\x03\x01\x02\x00", "does not begin with one"),
        (b"POST /", "does not begin with one"),
        (b"\r\n\r\nGET", "does not begin with one"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "malformed"),
        (b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "malformed"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "malformed"),
        (b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "malformed"),
        (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed address"),
        (b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "malformed address"),
        (b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", "malformed address"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "malformed port"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "malformed port"),
        (b"PROXY UNKNOWN" + b" " * 200 + b"\r\n", "longer than 107"),
        (b"PROXY " + b"A" * 200, "longer than 107"),
        (SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "version or command"),
        (SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), "version or command"),
        (SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12), "family or protocol"),
        (SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12), "family or protocol"),
        (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "too short"),
        (SIGNATURE + b"\x21\x21\x00\x23" + bytes(35), "too short"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than 4096"),
    ],
)
def test_other_bytes_are_refused_with_a_reason(sent: bytes, why: str) -> None:
    with pytest.raises(ProxyHeaderError, match=why):
        ProxyHeader().feed(sent)
