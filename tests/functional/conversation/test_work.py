"""Peers that make much work, or have much kept for them: each conversation has its bounds, and honest ones go on."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from se_server.conversation.settings import SessionSettings
from tests.frames import CLOSE, CONTINUATION, MASK, TEXT, frame
from tests.functional.conversation.stage import Eventually, serving
from tests.functional.conversation.test_framing import another, upgraded

MIB = 2**20
WIDE = "x" * (MIB - 200) + "😀"  # four bytes a character in memory


@pytest.mark.parametrize("kind", ["own", "websockets"])
async def test_waiting_events_are_bounded_in_bytes(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of 64 events of 4 MiB while a handler runs, none waits; the handler's end comes, and small ones are kept."""
    may_end = asyncio.Event()
    seen = Eventually()

    async def on_transcript(transcript: Any, session: Any) -> None:
        await may_end.wait()
        await session.send_response("done")

    async def on_error(error: Exception, session: Any) -> None:
        seen.add(str(error)[:20])

    async with (
        serving(kind, on_transcript=on_transcript, on_error=on_error) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        for _ in range(8):
            await api.send(type="error", message=WIDE)
        await api.send(type="error", message="a small one")
        await api.send(type="ping")
        assert (await api.receive())["type"] == "pong"  # all of them were read
        may_end.set()
        assert await api.answer() == [(1, "done")]
        await seen.until(lambda items: len(items) > 0)
    assert seen.items == ["a small one"]
    assert "too many events wait for a handler; error dropped" in caplog.text


async def test_a_flood_of_errors_and_a_huge_id_hold_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """A megabyte of control characters as an id, then 600 errors while a handler runs: few short lines."""
    caplog.set_level(logging.INFO)
    may_end = asyncio.Event()

    async def on_transcript(transcript: Any, session: Any) -> None:
        await may_end.wait()

    async with serving("own", on_transcript=on_transcript) as stage, stage.call() as api, stage.call() as other:
        for size in (MIB - 100, 60_000):
            await api.ws.send('{"type":"init","conversation_id":"' + size * "\x7f" + '"}')
        await api.say("hello", event_id=1)
        began = time.process_time()
        for _ in range(600):
            await api.ws.send('{"type":"error"}')
        await api.send(type="ping")
        assert (await api.receive())["type"] == "pong"
        await other.send(type="ping")
        assert (await other.receive())["type"] == "pong"
        assert time.process_time() - began < 2.0
        may_end.set()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("se_server")]
    assert 0 < len(lines) < 20
    assert max(map(len, lines)) < 1000
    assert not any("\x7f" in line for line in lines)


async def answering(transcript: Any, session: Any) -> None:
    await session.send_response("yes")


async def silent(transcript: Any, session: Any) -> None:
    pass


DIFFERENT = [f'{{"role":"user","content":"{number}"}}' for number in range(10_000)]


def slow_transcript(number: int) -> str:
    """Return a transcript of 400 KB whose every entry is read again: it differs from the last in its first one."""
    entries = ",".join([f'{{"role":"user","content":"first {number}"}}', *DIFFERENT])
    return f'{{"type":"user_transcript","user_transcript":[{entries}],"event_id":{number}}}'


@pytest.mark.parametrize("kind", ["own", "websockets"])
async def test_reading_pauses_beyond_the_budget_of_work(kind: str) -> None:
    """Work beyond the budget is spread over time, and none of it is lost."""
    turns = 0

    async def on_transcript(transcript: Any, session: Any) -> None:
        nonlocal turns
        turns += 1

    settings = SessionSettings(max_work_per_s=1_000_000)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        began = time.perf_counter()
        for number in range(1, 5):  # 4 times 1 million units; 2 million are free
            await api.ws.send(slow_transcript(number))
        while (await api.receive()).get("event_id") != 4:
            pass
        assert 0.8 < time.perf_counter() - began < 15.0
    assert turns >= 1


@pytest.mark.parametrize("kind", ["own", "websockets"])
async def test_work_beyond_the_budget_for_long_closes(kind: str) -> None:
    settings = SessionSettings(max_work_per_s=1_000_000, write_timeout_s=0.5)
    async with serving(kind, settings, on_transcript=silent) as stage, stage.call() as api:
        transcripts = [slow_transcript(number) for number in range(1, 30)]
        sending = asyncio.gather(*map(api.ws.send, transcripts), return_exceptions=True)
        await asyncio.wait_for(api.ws.wait_closed(), 10)
        assert (api.ws.close_code, api.ws.close_reason) == (1008, "too much work")
        await sending


async def test_a_long_real_conversation_never_meets_the_budget() -> None:
    """1,000 messages and 200 KB a turn: 30 turns at once are no more than the work of two seconds."""
    entries = [f'{{"role":"{("user", "agent")[n % 2]}","content":"{n} {"said" * 40}"}}' for n in range(1030)]
    settings = SessionSettings(write_timeout_s=0.001)
    async with serving("own", settings, on_transcript=answering) as stage, stage.call() as api:
        for turn in range(1, 31):
            history = ",".join(entries[: 1000 + turn])
            await api.ws.send(f'{{"type":"user_transcript","user_transcript":[{history}],"event_id":{turn}}}')
            assert await api.answer() == [(turn, "yes")]


async def test_a_read_of_many_messages_lets_others_in() -> None:
    """A whole read of tiny messages is handled in several steps of the loop, in their order."""
    steps = 0
    is_counting = True
    async with upgraded() as raw:
        loop = asyncio.get_running_loop()

        def step() -> None:
            nonlocal steps
            steps += 1
            if is_counting:
                loop.call_soon(step)

        raw.send(b"".join(frame(TEXT, b'{"type":"ping"}') for _ in range(1000)) + frame(TEXT, b'{"type":"close"}'))
        step()
        pongs_at = []
        while (received := await raw.receive()) is not None:
            pongs_at.append(steps)
            if received.opcode == CLOSE:
                break
        is_counting = False
    assert len(pongs_at) == 1001  # each was answered, and the close came last
    assert len(set(pongs_at)) >= 4


def split(payload: bytes, pieces: int) -> bytes:
    """Return a text message in fragments whose masks are zero."""
    size = -(-len(payload) // pieces)
    frames = b""
    for place in range(pieces):
        part = payload[place * size : (place + 1) * size]
        first = (TEXT if place == 0 else CONTINUATION) | (0x80 if place == pieces - 1 else 0)
        frames += bytes((first, 0xFF)) + len(part).to_bytes(8, "big") + bytes(4) + part
    return frames


@pytest.mark.parametrize("pieces", [1, 8])
async def test_large_messages_together_are_read_over_many_steps(pieces: int) -> None:
    """30 messages of 1 MiB that end together: a small one of another conversation waits for one of them at most."""
    message = split(b'{"type":"init","x":' + b"9" * (MIB - 100) + b"}", pieces)
    loop = asyncio.get_running_loop()
    steps, is_counting = 0, True

    def step() -> None:
        nonlocal steps
        steps += 1
        if is_counting:
            loop.call_soon(step)

    async with upgraded() as first:
        others = [first, *[await another(first) for _ in range(29)]]
        for raw in others:
            raw.send(message[:-1])
        for _ in range(20):  # until the server has read them
            await first.writer.drain()
            await asyncio.sleep(0.01)
        for raw in others:
            raw.send(message[-1:] + frame(TEXT, b'{"type":"ping"}'))
        step()

        async def answered_at(raw: Any) -> int:
            assert await raw.receive() is not None
            return steps

        answered = await asyncio.gather(*map(answered_at, others))
        is_counting = False
        for raw in others:
            raw.writer.close()
    assert max(answered.count(at) for at in answered) <= 3


async def test_conversations_that_make_much_work_are_read_after_others() -> None:
    """Twenty conversations send as much as they may: a small message beside them is answered before theirs."""
    message = split(b'{"type":"init","x":' + b"9" * (MIB - 100) + b"}", 1) + frame(TEXT, b'{"type":"ping"}')
    async with upgraded() as quiet:
        busy = [await another(quiet) for _ in range(20)]
        answers = Eventually()

        async def count(raw: Any) -> None:
            while (received := await raw.receive()) is not None:
                answers.add(received)

        counting = [asyncio.ensure_future(count(raw)) for raw in busy]
        for raw in busy:
            raw.send(message * 6)
        await answers.until(lambda items: len(items) >= 20)  # the first messages are nobody's much work
        before = len(answers.items)
        for _ in range(10):
            assert await quiet.is_alive()
        assert len(answers.items) - before < 60
        await answers.until(lambda items: len(items) == 120)  # and none is lost
        for task, raw in zip(counting, busy, strict=True):
            task.cancel()
            raw.writer.close()


async def test_unfinished_messages_share_a_bound() -> None:
    """Of many unfinished messages the oldest ends; a new one that is finished is answered."""
    head = b"\x82\xff" + MIB.to_bytes(8, "big") + MASK
    async with upgraded() as first:
        others = [await another(first) for _ in range(70)]
        for raw in [first, *others]:
            raw.send(head + b"x" * (MIB - 10))
            await raw.writer.drain()
        received = await first.receive()
        assert received is not None
        assert (received.opcode, received.close_code) == (CLOSE, 1008)
        last = await another(others[-1])
        assert await last.is_alive()
        for raw in [*others, last]:
            raw.writer.close()
