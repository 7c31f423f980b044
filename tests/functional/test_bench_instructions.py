"""The count of instructions: its replay checks what it is answered, and its comparison has a limit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("valgrind counts on Linux", allow_module_level=True)

from bench import instructions
from bench.kernel import BenchError, Target, running
from bench.load.conversations import Scenario

CORE = min(os.sched_getaffinity(0))
SCENARIO = Scenario(chunks=4, history=6, conversations=1)
TARGET = Target("replayed", (sys.executable, "-m", "bench.load.targets.replay_target"))

WRONG_HANDLER = """
from se_server import SpeechEngineServer
import asyncio, bench.load.targets.replay_target as target

async def on_transcript(transcript, session):
    await session.send_response("one chunk")

target.on_transcript = on_transcript
asyncio.run(target.serve())
"""


def test_the_replayed_server_answers_every_turn() -> None:
    with running(TARGET, CORE) as server:
        instructions.replay(server.port, SCENARIO, turns=20)


def test_a_wrong_answer_is_no_count() -> None:
    wrong = Target("wrong", (sys.executable, "-c", WRONG_HANDLER))
    with running(wrong, CORE) as server, pytest.raises(BenchError, match=r"turn 1 .* wrong answer"):
        instructions.replay(server.port, SCENARIO, turns=20)


def test_five_percent_more_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert instructions.print_counts({SCENARIO: 105_000}, {SCENARIO: 100_000}, "base")
    assert "| 4 chunks, 6 messages | 100,000 | 105,000 | +5.0% |" in capsys.readouterr().out
    assert not instructions.print_counts({SCENARIO: 105_001}, {SCENARIO: 100_000}, "base")
    assert "TOO MUCH" in capsys.readouterr().out


def test_without_valgrind_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert instructions.main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: ")


def test_a_version_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valgrind = tmp_path / "valgrind"
    valgrind.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert instructions.main(["--compare", "no-such-version"]) == 2
    assert "no-such-version" in capsys.readouterr().err
