"""The flight recorder on a real server: what is written, when, and what is not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from se_server.recordings.records import message_of
from tests.functional.processes import needs_proc, write_agent
from tests.functional.recording import Flight, recording_server, words_of_folder
from tests.helpers import (
    POLL_S,
    START_TIMEOUT_S,
    connect,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
)

pytestmark = needs_proc

AGENT = """
    import asyncio
    async def pieces(text):
        for at in range(0, len(text), 6):
            yield text[at:at + 6]
            await asyncio.sleep(0.01)
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "fail":
            raise ValueError("no such table: bookings of jane@example.com")
        if said == "slow":
            await asyncio.sleep(0.6)
        if said == "tick":
            for _ in range(10_000):
                await session.send_response("tick ", final=False)
                await asyncio.sleep(0.002)
        if said.startswith("say "):
            await session.send_response(pieces(said[4:]))
            return
        await session.send_response(f"you said {said}")
"""


HEADERS = {"X-Customer": "7", "X-Api-Token": "hidden-value", "X-Ref": "ghp_0123456789abcdefghijABCDEFGHIJ012345"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


async def _talk(flight: Flight, name: str, *said: str) -> list[str]:
    """Hold a conversation, and return its answers."""
    answers = []
    history: list[str | tuple[str, str]] = []
    async with connect(flight.server.url, headers=HEADERS) as websocket:
        await websocket.send(init_message(name))
        for number, words in enumerate(said, 1):
            history.append(words)
            await websocket.send(transcript_message(*history, event_id=number))
            answers.append(spoken(await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)))
            history.append(("agent", answers[-1]))
    return answers


async def test_an_error_writes_the_whole_conversation(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        await _talk(flight, "conv_good", "hello")
        await _talk(flight, "conv_bad", "hello", "fail", "say one two three")
        recorded = flight.wait_for("conv_bad", ended=True)
        assert [turn.outcome for turn in recorded.turns] == ["answered", "failed", "answered"]
        assert [turn.said for turn in recorded.turns] == ["hello", "fail", "say one two three"]
        assert recorded.turns[2].text == "one two three"
        assert recorded.header["reasons"] == ["error"]
        assert recorded.header["app"] == str(app)
        transcripts = [message_of(r.content) for r in recorded.records if r.direction == "out"]
        assert [len(one["user_transcript"]) for one in transcripts if "user_transcript" in one] == [1, 3, 5]
        (error,) = [note for note in recorded.notes if note["kind"] == "error"]
        assert error["class"] == "ValueError"
        assert [frame.partition(":")[0] for frame in error["frames"]] == [str(app)]
        events = [note["event"] for note in recorded.notes if note["kind"] == "llm"]
        assert events == ["one tw", "o thre", "e"]
        assert len(flight.files()) == 1
        assert stat.S_IMODE(flight.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(flight.files()[0].stat().st_mode) == 0o600
        assert "hidden-value" not in words_of_folder(flight.folder)
        assert ["X-Customer", "7"] in recorded.header["headers"]


async def test_shape_has_times_and_no_text(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "shape", "--record-on", "one-in=1", app=app, workers=1) as flight:
        await _talk(flight, "conv_shape", "my secret is 12345678", "my secret is 12345678")
        recorded = flight.wait_for("conv_shape", ended=True)
        assert [turn.outcome for turn in recorded.turns] == ["answered", "answered"]
        assert recorded.records == []
        hashes = [note for note in recorded.notes if note.get("name") == "user said"]
        assert [note["characters"] for note in hashes] == [21, 21]
        assert hashes[0]["hash"] == hashes[1]["hash"] != "0" * 15
        assert "secret" not in words_of_folder(flight.folder)
        assert "12345678" not in words_of_folder(flight.folder)
        result = flight.ctl("record", "conv_shape", "--as-test")
        assert result.returncode == 1
        assert "cannot be replayed" in result.stderr


async def test_a_slow_first_text_writes_before_the_end(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "redacted", "--record-on", "slow=0.5", app=app, workers=1) as flight:
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_slow"))
            await websocket.send(transcript_message("slow"))
            await read_answer(websocket)
            recorded = await asyncio.to_thread(flight.wait_for, "conv_slow")
            assert recorded.header["cause"] is None
            assert recorded.header["reasons"] == ["slow"]
            assert recorded.turns[0].first_text_s is not None
            assert recorded.turns[0].first_text_s > 0.5


@pytest.mark.parametrize("level", ["shape", "full"])
async def test_the_last_milliseconds_of_a_killed_worker_are_read(tmp_path: Path, app: Path, level: str) -> None:
    """The recording has every text that the caller got, one every 2 ms."""
    heard = 0
    with recording_server(tmp_path, level, app=app, workers=1) as flight:
        (worker,) = [row["pid"] for row in json.loads(flight.ctl("status", "--json").stdout)["workers"]]
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_killed"))
            await websocket.send(transcript_message("tick"))
            for _ in range(50):
                await websocket.recv()
                heard += 1
            os.kill(worker, signal.SIGKILL)
            with suppress(ConnectionClosed):
                while await websocket.recv():
                    heard += 1
        recorded = await asyncio.to_thread(flight.wait_for, "conv_killed", ended=True)
    assert recorded.header["cause"] == "worker_died"
    noted = sum(note["value"] for note in recorded.notes if note.get("name") == "texts sent")
    assert noted >= heard - 1  # the last one may be sent, and not yet noted
    if level == "full":
        texts = [message_of(record.content) for record in recorded.records if record.direction == "in"]
        assert sum(text["content"] == "tick " for text in texts if "content" in text) >= heard - 1


async def test_nothing_private_reaches_the_disk(tmp_path: Path, app: Path) -> None:
    (tmp_path / "own.py").write_text("def hide(text):\n    return text.replace('swordfish', '***')\n")
    own = ("--record-redactor", f"{tmp_path / 'own.py'}:hide", "--record-on", "one-in=1")
    with recording_server(tmp_path, "redacted", *own, app=app, workers=1) as flight:
        said = ("my card is 4111 1111 1111 1111", "say DE89 3704 0044 0532 0130 00 and 4111111111111111 swordfish")
        await _talk(flight, "conv_private", *said, "fail", "jane.doe@example.com or +49 30 1234567")
        recorded = flight.wait_for("conv_private", ended=True)
        words = words_of_folder(flight.folder)
        for private in ("4111 1", "411111", "3704 0", "0532 0", "swordfish", "jane", "1234567"):
            assert private not in words, private
        assert recorded.turns[1].text == "[iban] and [card] ***"
        assert recorded.turns[0].said == "my card is [card]"


async def test_forget_removes_everything_of_a_conversation(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        await _talk(flight, "conv_one", "fail")
        await _talk(flight, "conv_two", "fail")
        flight.wait_for("conv_one", ended=True)
        flight.wait_for("conv_two", ended=True)
        assert "1 recording removed" in flight.ctl("forget", "conv_one").stdout
        assert [path.name.split("-")[1] for path in flight.files()] == ["conv_two"]
        assert flight.ctl("record", "conv_one").returncode == 1
        assert "nothing is kept" in flight.ctl("forget", "conv_one").stderr
        # One that goes on is not kept any more.
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_open"))
            await websocket.send(transcript_message("my secret"))
            await read_answer(websocket)
            assert "my secret" in flight.text_of("conv_open")
            assert flight.ctl("forget", "conv_open").returncode == 0
            await websocket.send(transcript_message("my secret", event_id=2))
            await read_answer(websocket)
        assert "my secret" not in words_of_folder(flight.folder)


async def test_a_killed_observer_goes_on_with_whole_transcripts(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_long"))
            await websocket.send(transcript_message("first"))
            await read_answer(websocket)
            os.kill(flight.observer(), signal.SIGKILL)
            flight.server.wait_for_output("(?s)the observer was killed.*records conversations", START_TIMEOUT_S)
            deadline = time.monotonic() + START_TIMEOUT_S
            for event_id in range(2, 50):
                await websocket.send(transcript_message("first", ("agent", "x"), "second", event_id=event_id))
                await read_answer(websocket)
                if "second" in flight.text_of("conv_long"):
                    break
                assert time.monotonic() < deadline
                await asyncio.sleep(POLL_S)
        recorded = flight.wait_for("conv_long")
        assert "first" in str([r.content for r in recorded.records])
        assert recorded.header["messages_left_out"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--record", "full"), "give --record-dir DIR"),
        (("--record-dir", "/tmp"), "give --record shape, redacted or full too"),
        (("--record", "full", "--record-dir", "/proc/x"), "cannot use /proc/x"),
        (("--record", "some"), "shape"),
        (("--record-on", "slow"), "slow=SECONDS"),
        (("--record-on", "none,error"), "none alone, or triggers"),
        (("--record-on", "slow=2,error,slow=4"), "slow once"),
        (("--record-on", "error"), "--record-on is for recordings: give --record shape"),
        (("--record-redactor", "app.py:hide"), "--record-redactor is for recordings: give --record shape"),
        (("--record-memory", "64MiB"), "--record-memory is for recordings"),
        (("--record-max-age-s", "60"), "--record-max-age-s is for recordings"),
        (("--record-max-bytes", "1MiB"), "--record-max-bytes is for recordings"),
        (("--record", "shape", "--record-dir", "x", "--record-memory", "64MiB"), "--record-memory is for texts"),
        (("--record", "full", "--record-dir", "x", "--record-redactor", "a:b"), "leave it out, or record redacted"),
    ],
)
def test_unusable_options_are_refused_at_the_start(args: tuple[str, ...], said: str) -> None:
    with pytest.raises(AssertionError, match=said), running_server(*args):
        pass
