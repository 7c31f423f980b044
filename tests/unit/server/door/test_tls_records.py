"""The limit on records of TLS that carry little or nothing."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from se_server.server.door._tls_records import RecordLimit
from se_server.server.door.tls_tap import LARGE_READ_BYTES, RecordWatch, tap_of
from tests.fuzz.listener import Loop

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
    assert admitted(RecordLimit(rate=5 * EMPTY_WORK, loop=Loop()), data) == count


def test_pieces_of_records_count_as_the_whole() -> None:
    data = (record(22) + record(700) + record(40)) * 20
    for size in (1, 2, 3, 5, 7, 64, 1000):
        limit = RecordLimit(rate=5 * EMPTY_WORK, loop=Loop())
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        refused = [limit.admit(piece, len(piece), 0.0) for piece in pieces].index(False)
        # There is room for ten empty records, or for nine with the short ones between them: the tenth is too much.
        assert refused == (9 * len(data) // 20 + 4) // size


def test_the_limit_recovers_with_time() -> None:
    limit = RecordLimit(rate=EMPTY_WORK / 2, loop=Loop())
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


STEP_WORK = 512 * 1024


@pytest.mark.parametrize(("size", "most"), [(LARGE_READ_BYTES - 1, 1000), (65536, STEP_WORK // 32768)])
async def test_large_reads_are_spread_over_steps(size: int, most: int) -> None:
    """A step decrypts one MiB in large reads; short ones go on."""
    loop, inner = Loop(), Mock(spec=asyncio.Protocol())
    watch = RecordWatch(loop, 8e6, lambda: None)
    transports = []
    for count in range(1000):
        transport = Mock(spec=asyncio.Transport())
        transport.is_closing.return_value = False
        transports.append(transport)
        tap_of(inner, transport, watch).data_received(record(size - 5))
        if transport.pause_reading.call_count:
            assert count == most - 1
            break
    is_paused = transports[-1].pause_reading.call_count == 1
    assert is_paused == (most < 1000)
    loop.step()
    assert transports[-1].resume_reading.call_count == is_paused
