"""Conversations as scripts and as tests: what is written holds the conversation again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from se_server.simulator.exporting import Held, as_script, as_test
from se_server.simulator.habits import Habits
from se_server.simulator.loading import load_script
from se_server.simulator.script import Step
from se_server.testing import Caller, call

AGENT = """
import asyncio

async def on_transcript(transcript, session):
    said = transcript[-1].content
    if "nothing" in said:
        await session.send_response("")
        return
    async def words():
        for word in f"You said {said}, customer {session.headers.get('X-Customer', 'unknown')}.".split():
            yield word + " "
            await asyncio.sleep(0.1)
    await session.send_response(words())
"""


async def hold(app: Path, **given: Any) -> Held:
    async with call(str(app), **given) as caller:
        await caller.say('hello "you" \\ \U0001f600')
        caller.interrupt("stop", after_chars=9)
        await caller.say("tell me more")
        await caller.say("nothing at all")
        await caller.say("bye")
        return held(caller, app, **given)


def held(caller: Caller, app: Path, **given: Any) -> Held:
    turns = [(turn, caller.verdict(turn)) for turn in caller.turns]
    habits = given.get("habits") or Habits()
    return Held(turns, habits, caller.conversation_id, str(app), headers=given.get("headers", {}))


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_conversation.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_a_conversation_is_a_passing_test(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(AGENT)
    found = as_test(await hold(app, headers={"X-Customer": "7"}, habits=Habits(extra_ids=1)))
    result = run(tmp_path, found)
    assert result.returncode == 0, found + result.stdout
    assert "customer 7" in found
    app.write_text("def on_transcript(transcript, session):\n    raise RuntimeError('broken since')\n")
    assert run(tmp_path, found).returncode == 1


async def test_a_mended_turn_fails_its_test(tmp_path: Path) -> None:
    """The line beside it then passes: it is what the developer wants to keep."""
    app = tmp_path / "agent.py"
    app.write_text("async def on_transcript(transcript, session):\n    await session.send_response('')\n")
    async with call(str(app), empty_answer_text="") as caller:
        await caller.say("hello")
        found = as_test(held(caller, app))
    assert "It went wrong: the answer was empty" in found
    app.write_text(AGENT)
    assert run(tmp_path, found).returncode == 1
    kept = found.replace("# Once it is mended: ", "").replace(
        "    assert reply_1.verdict.outcome is Outcome.SILENT\n", ""
    )
    assert run(tmp_path, kept).returncode == 0


async def test_a_script_has_the_same_steps(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(AGENT)
    conversation = await hold(app, habits=Habits.live())
    (tmp_path / "talk.toml").write_text(as_script(conversation), encoding="utf-8")
    script = load_script(tmp_path / "talk.toml")
    assert script.habits == Habits.live()
    steps = [step for step in script.steps if isinstance(step, Step)]
    assert [(step.say, step.interrupt, step.after_chars) for step in steps] == [
        ('hello "you" \\ \U0001f600', None, None),
        ("tell me more", None, None),
        (None, "stop", 9),
        ("nothing at all", None, None),
        ("bye", None, None),
    ]
