"""The limit on records of TLS that carry little or nothing."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from se_server.server.door._tls_records import RecordLimit
from se_server.server.door.tls_tap import RecordWatch, tap_of

APPLICATION_DATA, HANDSHAKE = 23, 22
EMPTY_WORK = 65536


def record(size: int, kind: int = APPLICATION_DATA) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes(size)


def admitted(limit: RecordLimit, data: bytes, most: int = 1000) -> int:
    """Give the same bytes again and again; return how often they were admitted."""
    return next((count for count in range(most) if not limit.admit(data, len(data), 0.0)), most)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (record(22), 10),  # a request for new keys
        (record(0), 10),
        (record(300, HANDSHAKE), 10),
        (record(23) * 512, 10),  # empty frames of a WebSocket
        (record(255) * 512, 10),
        (record(256), 1000),
        (record(16_000), 1000),
        (record(22) + record(23) * 512, 5),
    ],
)
def test_short_records_are_limited(data: bytes, count: int) -> None:
    assert admitted(RecordLimit(rate=5 * EMPTY_WORK, now=0.0), data) == count


def test_pieces_of_records_count_as_the_whole() -> None:
    data = (record(22) + record(700) + record(40)) * 20
    for size in (1, 2, 3, 5, 7, 64, 1000):
        limit = RecordLimit(rate=5 * EMPTY_WORK, now=0.0)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        refused = [limit.admit(piece, len(piece), 0.0) for piece in pieces].index(False)
        # There is room for ten empty records, or for nine with the short ones between them: the tenth is too much.
        assert refused == (9 * len(data) // 20 + 4) // size


def test_the_limit_recovers_with_time() -> None:
    limit = RecordLimit(rate=EMPTY_WORK / 2, now=0.0)
    assert limit.admit(record(22), 27, 0.0)
    assert not limit.admit(record(22), 27, 0.1)
    assert limit.admit(record(22), 27, 5.0)


async def test_tls_that_takes_bytes_is_watched() -> None:
    """The TLS of asyncio before Python 3.11 has no buffer of its own."""
    inner, transport, floods = Mock(spec=asyncio.Protocol()), Mock(spec=asyncio.Transport()), []
    transport.is_closing.return_value = False
    watch = RecordWatch(asyncio.get_running_loop(), EMPTY_WORK / 2, lambda: floods.append(1))
    tap = tap_of(inner, transport, watch)
    assert isinstance(tap, asyncio.Protocol)
    for _ in range(2):
        tap.data_received(record(22))
    assert inner.data_received.call_count == len(floods) == transport.abort.call_count == 1
    tap.connection_lost(None)
    assert inner.connection_lost.call_count == 1
