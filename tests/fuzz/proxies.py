"""PROXY and proxy headers: cuts change nothing, and no client can take the place of a trusted proxy.

An input is a byte that chooses what is read, and the bytes of a PROXY header, or lines of header values.
"""

from __future__ import annotations

from ipaddress import ip_network

from se_server.server.door.clients import Networks, client_behind, client_named
from se_server.server.listen.proxy import MAX_V2_BYTES, ProxyHeader, ProxyHeaderError
from se_server.types import Headers
from tests.fuzz.head import cut

TRUSTED = Networks([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
NEAR = client_named("10.0.0.1:7")


def one_input(data: bytes) -> None:
    kind, stream = data[:1], data[1:]
    if kind < b"\x80":
        whole = read([stream])
        assert whole == read([stream[place : place + 1] for place in range(len(stream))])
        assert whole == read(cut(stream, kind[0] if kind else 0))
        return
    pairs = []
    for line in stream.replace(b"\r", b"").split(b"\n"):
        name, _, value = line.partition(b":")
        pairs.append((b"X-Forwarded-For" if name == b"X" else b"Forwarded", value))
    client = client_behind(NEAR, Headers.of(pairs), TRUSTED)
    assert client.text.isprintable()
    assert client.address is None or client_named(client.text).address == client.address
    names = b",".join(value for name, value in pairs if name == b"X-Forwarded-For")
    if client.address in TRUSTED and names.strip(b" \t,"):
        assert names.count(b",") < 32  # more names are not read, and the client is unknown


def read(pieces: list[bytes]) -> tuple[str | None, int, bool]:
    """Return the client, the number of bytes that belong to the header, and whether it is none."""
    header, taken = ProxyHeader(), 0
    for piece in pieces:
        try:
            while piece and header.client is None and taken < MAX_V2_BYTES:
                count = header.feed(piece)
                taken += count
                piece = piece[count:]
                if not count:
                    break
        except ProxyHeaderError:
            return None, 0, True
        if header.client is not None:
            break
    return header.client, taken if header.client is not None else 0, False
