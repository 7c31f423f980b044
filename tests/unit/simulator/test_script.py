"""Scripts: their steps and error messages; recordings and their replay."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from se_server.errors import CallerError, ScriptError
from se_server.simulator.caller import Caller
from se_server.simulator.habits import Habits, Malformed
from se_server.simulator.loading import load_script, script_of_recording
from se_server.simulator.play import Failure, play
from se_server.simulator.recording import Record, Recording, load_recording
from se_server.simulator.script import Expect, Replay, Script, Step
from tests.helpers import TEST_API_KEY

DOCUMENT = (Path(__file__).parents[3] / "docs" / "scripts.md").read_text(encoding="utf-8")


async def agent(websocket: ServerConnection) -> None:
    """Answer like the demo agent, in a word or two; a story has no end."""
    with suppress(ConnectionClosed):
        await converse(websocket)


async def converse(websocket: ServerConnection) -> None:
    async for raw in websocket:
        try:
            message = json.loads(raw)
        except ValueError:
            continue
        if message["type"] == "ping":
            await websocket.send('{"type":"pong"}')
        if message["type"] != "user_transcript":
            continue
        said = message["user_transcript"][-1]["content"]
        turn = sum(entry["role"] == "user" for entry in message["user_transcript"])
        answers = {"bye": "It was a pleasure.", "nothing": "", "tell me a story": "Once upon a time " * 5}
        text = answers.get(said, f"I am the demo agent, this is turn {turn}.")
        for is_final in (False, True):
            if is_final and said in ("tell me a story", "never mind"):
                break
            chunk = {"type": "agent_response", "content": "" if is_final else text, "is_final": is_final}
            await websocket.send(json.dumps({**chunk, "event_id": message["event_id"]}))


@asynccontextmanager
async def calling(script: Script, recording: Recording | None = None) -> AsyncIterator[Caller]:
    async with serve(agent, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws"
        async with Caller.connect(
            url,
            api_key=TEST_API_KEY,
            habits=script.habits,
            conversation_id=script.conversation_id,
            reply_timeout_s=5,
            recording=recording,
        ) as caller:
            yield caller


async def held(script: Script) -> list[Failure]:
    async with calling(script) as caller:
        return await play(script, caller)


def written(tmp_path: Path, text: str, name: str = "talk.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# --- what steps do --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
async def test_the_examples_of_the_documentation_pass(tmp_path: Path, number: int) -> None:
    examples = re.findall(r"```(toml|python)\n(.*?)```", DOCUMENT, re.DOTALL)
    if number == len(examples):
        return
    kind, text = examples[number]
    script = load_script(written(tmp_path, text, f"example.{'py' if kind == 'python' else 'toml'}"))
    assert [str(failure) for failure in await held(script)] == []


def test_the_documentation_names_every_switch_and_key() -> None:
    """Its examples of both kinds load."""
    assert set(re.findall(r"```(toml|python)\n", DOCUMENT)) == {"toml", "python"}
    for kind in (Habits, Expect, Step):
        for field in fields(kind):
            assert f"`{field.name}" in DOCUMENT or f"{field.name} =" in DOCUMENT, field.name
    for malformed in Malformed:
        assert f'"{malformed.value}"' in DOCUMENT


async def test_every_kind_of_step_in_one_conversation(tmp_path: Path) -> None:
    text = """
        conversation_id = "conv_of_the_script"
        [[steps]]
        say = "hello"
        expect = { contains = ["Demo", "AGENT"], equals = " I am the demo agent, this is turn 1." }
        [[steps]]
        expect.matches = "turn [0-9]"
        [[steps]]
        ping = true
        [[steps]]
        say = "tell me a story"
        [[steps]]
        wait_s = 0.01
        [[steps]]
        interrupt = "go on"
        after_s = 0.02
        [[steps]]
        expect = { contains = "turn 3", complete_within_s = 4 }
        [[steps]]
        reconnect = true
        [[steps]]
        say = "nothing"
        expect = { silence = true, within_s = 0.05 }
        [[steps]]
        say = "bye"
        expect = { within_s = 4, contains = "pleasure" }
        [[steps]]
        close = true
    """
    script = load_script(written(tmp_path, text))
    async with calling(script) as caller:
        assert [str(failure) for failure in await play(script, caller)] == []
        assert caller.model.conversation_id == "conv_of_the_script"
        assert caller.ended is not None


@pytest.mark.parametrize(
    ("said", "expect", "told"),
    [
        ("hello", "'nonsense'", "step 1: expected 'nonsense', heard 'I am the demo agent, this is turn 1.'"),
        ("hello", "{ contains = ['demo', 'x y'] }", "expected 'x y'"),
        ("hello", "{ equals = 'Hi' }", "expected exactly 'Hi'"),
        ("hello", "{ matches = '^turn' }", "expected a match of '^turn'"),
        ("hello", "{ within_s = 0 }", "expected the first word within 0 s, but it took"),
        ("hello", "{ silence = true }", "expected silence, heard 'I am"),
        ("nothing", "{ within_s = 1 }", "expected the first word within 1 s, but it never came, heard nothing"),
        ("nothing", "'something'", "the answer was empty"),
    ],
)
async def test_an_unmet_expectation_tells_what_was_heard(tmp_path: Path, said: str, expect: str, told: str) -> None:
    script = load_script(written(tmp_path, f"[[steps]]\nsay = '{said}'\nexpect = {expect}\n[[steps]]\nsay = 'bye'"))
    async with calling(script) as caller:
        (failure,) = await play(script, caller)
        assert told in str(failure)
        assert caller.heard == "It was a pleasure.", "the conversation goes on"


async def test_an_impossible_step_ends_the_script(tmp_path: Path) -> None:
    text = "[[steps]]\nsay = 'hello'\n[[steps]]\ninterrupt = 'stop'\nafter_chars = 5000\n[[steps]]\nsay = 'bye'"
    (failure,) = await held(load_script(written(tmp_path, text)))
    assert "step 2: expected an answer to 'stop'" in str(failure)
    assert "complete before" in str(failure) or "the last one is complete" in str(failure)


async def test_an_answer_cut_by_a_habit_passes(tmp_path: Path) -> None:
    text = """
        habits = { interrupt_after_chars = 5, interruption = "bye" }
        [[steps]]
        say = "tell me a story"
        expect = "The end."
        [[steps]]
        say = "hello"
        expect = "turn 3"
    """
    assert await held(load_script(written(tmp_path, text))) == []


async def test_hanging_up_is_the_callers_doing(tmp_path: Path) -> None:
    script = load_script(written(tmp_path, "[[steps]]\nsay = 'tell me a story'\n[[steps]]\nhang_up = true"))
    async with calling(script) as caller:
        assert await play(script, caller) == []
        assert str(caller.ended) == "the caller hung up"
        assert caller.summary().is_ok


async def test_a_python_script_tells_the_line_that_failed(tmp_path: Path) -> None:
    text = (
        "async def conversation(caller):\n    reply = await caller.say('hello')\n    assert 'x' in reply.text, 'no x'\n"
    )
    (failure,) = await held(load_script(written(tmp_path, text, "talk.py")))
    assert str(failure) == ("expected what talk.py, line 3 says, heard 'I am the demo agent, this is turn 1.' (no x)")


# --- wrong scripts --------------------------------------------------------------------------------------------------

STEP = "[[steps]]\nsay = 'x'\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has steps"),
        ("steps = 3", "has steps"),
        ("steps = [3]", "step 1: a step must be a table"),
        (STEP + "[[steps]]\nsya = 'x'", "step 2: unknown key 'sya'; did you mean say?"),
        (STEP + "interrupt = 'y'", "step 1: 'say' and 'interrupt' are two actions"),
        ("[[steps]]\n", "step 1: a step without an action"),
        ("[[steps]]\nsay = 3", "step 1: 'say' is 3: it must be a text"),
        ("[[steps]]\nsay = ' '", "step 1: 'say' is blank"),
        ("[[steps]]\nwait_s = -1", "step 1: 'wait_s' is -1: it must be a number of seconds"),
        ("[[steps]]\nwait_s = nan", "step 1: 'wait_s' is nan"),
        ("[[steps]]\nwait_s = true", "step 1: 'wait_s' is True"),
        ("[[steps]]\nclose = false", "step 1: 'close' is False: it can only be true"),
        (STEP + "after_chars = 4", "'after_chars' requires 'interrupt'"),
        ("[[steps]]\ninterrupt = 'x'\nafter_chars = 0", "it must be above 0"),
        (STEP + "expect = 4", "step 1, expect: expected a text, or a table"),
        (STEP + "expect = { contain = 'x' }", "step 1, expect: unknown key 'contain'; did you mean contains?"),
        (STEP + "expect = { contains = 3 }", "'contains' is 3"),
        (STEP + "expect = { matches = '(' }", "'matches' is not a regular expression"),
        (STEP + "expect = { silence = true, contains = 'x' }", "'silence' can only be combined with 'within_s'"),
        ("habbits = 'live'\n" + STEP, "unknown key 'habbits'; did you mean habits?"),
        ("habits = 'hostil'\n" + STEP, "habits are 'hostil'; did you mean hostile?"),
        ("habits = { resend_after = 4 }\n" + STEP, "habits: unknown key 'resend_after'; did you mean resend_after_s?"),
        ("habits = { extra_ids = 9 }\n" + STEP, "habits: extra_ids is 9: it must be 0, 1 or 2"),
        ("habits = { malformed = 3 }\n" + STEP, "habits: malformed is 3"),
        ("seed = 4\n" + STEP, "'seed' requires habits = 'hostile'"),
        ("[[steps]\n", "not valid TOML"),
    ],
)
def test_a_wrong_script_names_file_step_and_key(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("talk.txt", "", "ends in .toml or .py"),
        ("talk.py", "def f(:\n", "line 1: SyntaxError"),
        ("talk.py", "\nimport no_such_module\n", "line 2: ModuleNotFoundError"),
        ("talk.py", "conversation = 3\n", "async def conversation(caller)"),
        ("talk.py", "habits = 'live'\nasync def conversation(caller): ...\n", "habits are 'live'"),
        ("talk.jsonl", "{}\n", "line 1: its t_s is null"),
        ("talk.jsonl", "", "the recording is empty"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(ScriptError) as caught:
        load_script(written(tmp_path, text, name))
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["none.toml", "none.py", "none.jsonl"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        load_script(tmp_path / name)


def test_bytes_that_are_no_text_are_no_script(tmp_path: Path) -> None:
    (tmp_path / "talk.toml").write_bytes(b"\xff")
    with pytest.raises(ScriptError, match="not valid TOML"):
        load_script(tmp_path / "talk.toml")


# --- recordings -----------------------------------------------------------------------------------------------------


def sent_in(records: list[Record]) -> list[str | bytes]:
    """Return the API's messages without `close`, which a conversation between two connections cannot send."""
    sent = [record.content for record in records if record.direction == "out" and record.content is not None]
    return [message for message in sent if message != '{"type": "close"}']


@pytest.mark.parametrize("seed", range(6))
async def test_a_recorded_hostile_conversation_replays_as_the_same(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "call.jsonl"
    script = Script("recorded", habits=Habits.hostile(seed).scaled(0.02), conversation_id=f"conv_{seed}")
    with path.open("w", encoding="utf-8") as file:
        async with calling(script, Recording(file)) as caller:
            for text in ("Hello, over there.", "How is the weather?", "bye"):
                await caller.say(text)
            await caller.quiet()
    again = load_script(path)
    assert again.conversation_id == f"conv_{seed}"
    recording = Recording()
    async with calling(again, recording) as replayer:
        await play(again, replayer)
    assert sent_in(recording.records) == sent_in(load_recording(path))
    # If an interruption ends a pause early, the recording has only the transcripts sent until then.
    assert [(turn.asks[-1].wording, turn.event_id) for turn in replayer.model.turns] == [
        (turn.asks[-1].wording, turn.event_id) for turn in caller.model.turns
    ]
    for before, after in zip(caller.summary().turns, replayer.summary().turns, strict=True):
        if before.complete_s is not None:
            # The recording may have ended before the answer to a repeated question.
            assert after.heard.startswith(before.heard)


async def test_a_server_that_answers_less_fails_the_replay() -> None:
    recording = Recording()
    script = Script("recorded")
    async with calling(script, recording) as caller:
        await caller.say("hello")
        await caller.say("bye")
    again = script_of_recording(recording.records)
    muted = [
        Replay(step.content.replace("hello", "nothing"), step.gap_s, step.heard_chars, step.is_final)
        for step in again.steps
        if isinstance(step, Replay) and isinstance(step.content, str)
    ]
    failures = await held(Script("muted", steps=tuple(muted)))
    assert [failure.expected for failure in failures] == ["a proper answer to 'nothing'"]


def test_a_recording_is_bounded_and_says_so() -> None:
    recording = Recording(max_bytes=300)
    for number in range(100):
        recording.add(float(number), "out", "text", "x" * 50)
    assert recording.is_full
    assert len(recording.records) < 10
    assert recording.records[-1].kind == "truncated"


def test_records_survive_the_disk_bytes_and_surrogates_included(tmp_path: Path) -> None:
    path = tmp_path / "call.jsonl"
    with path.open("w", encoding="utf-8") as file:
        recording = Recording(file)
        recording.add(5.0, "out", "open")
        recording.add(5.5, "out", "text", "größer\n\ud800")
        recording.add(6.0, "in", "binary", b"\xff\x00", "because")
    first, second, third = load_recording(path)
    assert (first.t_s, first.content) == (0.0, None)
    assert (second.t_s, second.content) == (0.5, "größer\n\ud800")
    assert (third.direction, third.content, third.why) == ("in", b"\xff\x00", "because")


def test_a_broken_recording_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, '{"t_s": 0, "direction": "out", "kind": "open"}\n{"t_s": 1}\n', "call.jsonl")
    with pytest.raises(CallerError, match="line 2"):
        load_recording(path)
