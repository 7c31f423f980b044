"""Yesterday's conversation against today's agent: recordings of a real server, held again in virtual time."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from se_server.errors import CallerError
from se_server.testing import replay
from tests.functional.processes import needs_proc, write_agent
from tests.functional.recording import recording_server
from tests.helpers import START_TIMEOUT_S, connect, init_message, read_answer, transcript_message

AGENT = """
    import asyncio
    import os
    async def ask(said):
        if "NO_LLM" in os.environ:
            raise ConnectionError("the provider is away")
        async def chunks():
            for word in ("it ", "rains ", "in ", said):
                await asyncio.sleep(0.1)
                yield {"choices": [{"index": 0, "delta": {"content": word}}]}
        return chunks()
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "fail":
            raise ValueError("no such table")
        if said == "slow":
            await asyncio.sleep(1.2)
        if said == "story":
            for number in range(1000):
                await session.send_response(f"word{number} ", final=False)
                await asyncio.sleep(0.02)
        if said.startswith("weather "):
            await session.send_response(await ask(said[8:]))
            return
        await session.send_response(f"{session.headers['x-customer']} said {said}")
"""
SAID = ("hello", "slow", "fail", "weather Rome")
OUTCOMES = ["answered", "answered", "failed", "answered", "interrupted", "answered"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a recording of a real conversation, and its agent; one in which the machine did not stand still."""
    for _ in range(3):
        folder = tmp_path_factory.mktemp("replays")
        app = write_agent(folder / "agent.py", AGENT)
        with recording_server(folder, "full", app=app, workers=1) as flight:
            asyncio.run(_talk(flight.server.url))
            turns = flight.wait_for("conv_replayed", ended=True).turns
            if all((turn.first_text_s or 0.0) < (1.2 if turn.said == "slow" else 0.1) + 0.1 for turn in turns):
                break
    return flight.files()[0], app


async def _talk(url: str) -> None:
    history: list[str | tuple[str, str]] = []
    async with connect(url, headers={"X-Customer": "Jane"}) as websocket:
        await websocket.send(init_message("conv_replayed"))
        for number, words in enumerate(SAID, 1):
            history.append(words)
            await websocket.send(transcript_message(*history, event_id=number))
            await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)
            history.append(("agent", "..."))
        await websocket.send(transcript_message("story", event_id=5))
        for _ in range(10):
            await websocket.recv()
        await websocket.send(transcript_message("story", ("agent", "word0"), "enough", event_id=6))
        while json.loads(await websocket.recv()).get("event_id") != 6:
            pass


@needs_proc
def test_todays_agent_says_what_yesterdays_said(recorded: tuple[Path, Path]) -> None:
    path, app = recorded
    held = replay(path, str(app))
    assert held.outcomes == OUTCOMES
    assert held.differences == []
    assert held.turns[0].text == "Jane said hello"
    assert held.turns[1].first_text_s == pytest.approx(1.2)
    assert [type(error) for error in held.errors] == [ValueError]


@needs_proc
def test_differences_are_named(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = recorded
    changed = AGENT.replace('raise ValueError("no such table")', 'said = "no table"').replace("sleep(1.2)", "sleep(3)")
    held = replay(path, str(write_agent(tmp_path / "changed.py", changed.replace("rains", "snows"))))
    slower, *others = held.differences
    assert re.match(r"turn 2: first text after 3\.00 s, and was after 1\.\d", slower)  # of a real clock
    assert others == [
        "turn 3: answered, and was failed",
        "turn 3: said 'Jane said no table', and had said ''",
        "turn 4: said 'it snows in Rome', and had said 'it rains in Rome'",
    ]
    assert "no table" in str(held)


@needs_proc
def test_a_replay_needs_no_provider(recorded: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, app = recorded
    monkeypatch.setenv("NO_LLM", "1")
    assert replay(path, str(app)).outcomes[3] == "failed"
    held = replay(path, str(app), llm="agent:ask")
    assert held.differences == []
    assert held.turns[3].first_text_s == pytest.approx(held.recorded[3].first_text_s, abs=0.05)


@needs_proc
def test_a_minute_of_conversation_takes_milliseconds(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    path, app = recorded
    header, *lines = map(json.loads, path.read_text().splitlines())
    begin = next(place for place, line in enumerate(lines) if "user_transcript" in str(line.get("text")))
    longest_s = max(line["t_s"] for line in lines)
    long = [header, *lines[:begin]]
    for number in range(5):  # five times the six turns, twelve seconds apart
        for line in lines[begin:]:
            shifted: dict[str, Any] = {**line, "t_s": line["t_s"] + 12.0 * number}
            if shifted.get("event_id"):
                shifted["event_id"] += 6 * number
            elif "event_id" in str(shifted.get("text")):
                message = json.loads(shifted["text"])
                shifted["text"] = json.dumps({**message, "event_id": message["event_id"] + 6 * number})
            long.append(shifted)
    assert longest_s < 12.0
    minute = tmp_path / "minute.jsonl"
    minute.write_text("\n".join(map(json.dumps, long)))
    took = []
    for _ in range(8):
        began = time.process_time()  # other programs of the machine do not count
        held = replay(minute, str(app))
        took.append(time.process_time() - began)
    assert held.outcomes == OUTCOMES * 5
    assert min(took) < 0.1, took  # 11 ms on an idle core


def _shape(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


HEADER = {"recording": {"version": 2, "level": "shape", "conversation_id": "c", "cause": "closed"}}
OPEN = {"t_s": 0, "direction": "out", "kind": "open"}
SAID_A = {"type": "user_transcript", "event_id": 1, "user_transcript": [{"role": "user", "content": "a"}]}
SAYS = {"t_s": 1, "direction": "out", "kind": "text", "text": json.dumps(SAID_A)}


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ((HEADER, {"t_s": 0, "direction": "note", "kind": "event", "name": "opened"}), {}, "no texts"),
        (({"recording": {"version": 3}},), {}, "update se-server"),
        (("nothing",), {}, "line 1: not a record"),
        ((HEADER, OPEN, SAYS), {"llm": "nosuch:ask"}, "no events of an LLM"),
        ((HEADER, OPEN, SAYS), {"llm": 5}, "llm=5: expected 'auto', 'module:function', or a list"),
        ((HEADER, OPEN, SAYS), {"llm": ["a:b", len]}, "or a list of such names"),
        (
            (HEADER, OPEN, SAYS, {"t_s": 1, "direction": "note", "kind": "stream", "event_id": 1}),
            {"llm": "nosuch:ask"},
            "expected module:function",
        ),
    ],
)
def test_what_cannot_be_replayed_is_named(
    tmp_path: Path, lines: tuple[object, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(CallerError, match=said):
        replay(_shape(tmp_path, *lines), {"on_transcript": lambda *_: "x"}, **options)


async def test_a_replay_inside_a_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="plain function"):
        replay(_shape(tmp_path, HEADER, OPEN, SAYS), "se_server.demo")


def test_a_callers_recording_replays_without_notes(tmp_path: Path) -> None:
    answers = [
        {"t_s": 1.5, "direction": "in", "kind": "text", "text": json.dumps(message)}
        for message in (
            {"type": "agent_response", "content": "b", "event_id": 1, "is_final": False},
            {"type": "agent_response", "content": "", "event_id": 1, "is_final": True},
        )
    ]

    async def on_transcript(_transcript: Any, session: Any) -> None:
        await asyncio.sleep(0.5)
        await session.send_response("b")

    held = replay(_shape(tmp_path, OPEN, SAYS, *answers), {"on_transcript": on_transcript})
    assert held.differences == []
    assert held.outcomes == ["answered"]


TEST = """
    import pytest

    pytestmark = pytest.mark.se_app("agent.py")

    def test_it(se_replay):
        replay = se_replay("conversation.jsonl", llm="agent:ask")
        assert replay.turns[{turn}].outcome == "answered"

    def test_no_file(se_replay):
        se_replay("nosuch.jsonl")
"""


@needs_proc
def test_the_fixture_shows_what_was_said(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = recorded
    (tmp_path / "conversation.jsonl").write_bytes(path.read_bytes())
    write_agent(tmp_path / "agent.py", AGENT)
    for turn, outcomes in ((0, "1 failed, 1 passed"), (2, "2 failed")):
        write_agent(tmp_path / "test_it.py", TEST.format(turn=turn))
        options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:asyncio")
        command = [sys.executable, "-m", "pytest", *options, "test_it.py"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=50)
        assert outcomes in result.stdout
        assert "nosuch.jsonl: cannot read the recording: No such file" in result.stdout
    assert "   3 user  'fail'\n     agent ' ' (failed)\n" in result.stdout
    assert "ValueError: no such table" in result.stdout
    assert "turn 4" not in result.stdout
