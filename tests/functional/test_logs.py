"""The log of a real server has one line for each conversation, for every ending and every name."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from se_server.conversation.snapshot import MAX_ID
from tests.helpers import (
    ServerProcess,
    close_message,
    connect,
    init_message,
    read_answer,
    running_server,
    transcript_message,
)

ENDED = r'\{[^\n]*"message":"conversation ended"[^\n]*\}'


def ends(server: ServerProcess, count: int = 1) -> list[dict[str, object]]:
    """Wait for a number of lines about ended conversations."""
    server.wait_for_output(rf"(?s)({ENDED}.*){{{count}}}")
    lines = [line for line in server.output().splitlines() if '"message":"conversation ended"' in line]
    return [json.loads(line) for line in lines]


async def test_a_conversation_is_logged_at_its_end(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(
        "import asyncio\n"
        "async def on_transcript(transcript, session):\n"
        "    await asyncio.sleep(3600 if transcript[-1].content == 'wait' else 0.05)\n"
        "    await session.send_response('hello')\n"
    )
    with running_server("--log-format", "json", app=app, workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(init_message("conv_1"))
            await websocket.send(transcript_message("wait", event_id=1))
            for event_id in (2, 3):
                await websocket.send(transcript_message("hello", event_id=event_id))
                await read_answer(websocket)
            await websocket.close(4000, "good\u202e bye")
        (end,) = ends(server)
    assert (end["conversation_id"], end["turns"], end["interruptions"]) == ("conv_1", 3, 0)
    assert (end["code"], end["reason"]) == (4000, "good\\u202e bye")
    duration_s, median_s, slowest_s = (end[name] for name in ("duration_s", "first_chunk_p50_s", "first_chunk_max_s"))
    assert isinstance(duration_s, float)
    assert isinstance(median_s, float)
    assert isinstance(slowest_s, float)
    assert 0.04 <= median_s <= slowest_s < duration_s  # uvloop's timers may fire a millisecond early


async def test_every_ending_has_a_code_and_a_reason() -> None:
    with running_server("--log-format", "json", "--drain-timeout-s", "0", workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(close_message())
            await asyncio.wait_for(websocket.wait_closed(), 10)
        ends(server, 1)
        async with connect(server.url) as websocket:
            await websocket.close()
        ends(server, 2)
        async with connect(server.url) as websocket:
            websocket.transport.abort()
        ends(server, 3)
        async with connect(server.url) as websocket:
            await websocket.send(b"\xff" * 2_000_000)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
        ends(server, 4)
        async with connect(server.url) as websocket:
            await websocket.send(init_message())
            await websocket.send(transcript_message("hello"))
            await read_answer(websocket)
            server.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
        found = [(end["code"], end["reason"]) for end in ends(server, 5)]
    assert found == [
        (1000, "close message"),
        (1000, "closed by the peer"),
        (1006, "connection lost"),
        (1009, "message is too big"),
        (1001, "going away"),
    ]


@pytest.mark.parametrize("is_dropped", [True, False])
async def test_an_error_of_the_api_is_the_reason(is_dropped: bool) -> None:
    with running_server("--log-format", "json", workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send('{"type": "error", "message": "Speech Engine generation failed"}')
            if is_dropped:
                websocket.transport.abort()
            else:
                await websocket.send(close_message())
                await asyncio.wait_for(websocket.wait_closed(), 10)
        (end,) = ends(server, 1)
    rest = "connection lost" if is_dropped else "close message"
    assert end["reason"] == f"Speech Engine generation failed (an error of the API, then: {rest})"


async def test_an_old_error_of_the_api_is_no_reason() -> None:
    with running_server("--log-format", "json", workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send('{"type": "error", "message": "just a warning"}')
            await websocket.send(transcript_message("hello"))
            await read_answer(websocket)
            websocket.transport.abort()
        (end,) = ends(server, 1)
    assert end["reason"] == "connection lost"


async def test_a_hostile_name_is_escaped_and_cut() -> None:
    name = "conv\n2026 ERROR forged\x1b[2J\u2028 code=1" + "x" * 10_000
    with running_server(workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(init_message(name))
        line = server.wait_for_output(r"conversation ended: (conversation_id=.*)")[1]
    assert line.isprintable()
    assert line.startswith(r'conversation_id="conv\n2026 ERROR forged\u001b[2J\u2028 code=1xxx')
    assert len(line) < MAX_ID + 250
    assert line.endswith('code=1000 reason="closed by the peer"')
