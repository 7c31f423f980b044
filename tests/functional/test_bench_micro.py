"""The count of instructions: replays check their results, wrong answers are not counted, and growth has a limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("valgrind counts on Linux", allow_module_level=True)

import se_server
from bench.kernel import BenchError, Target, running
from bench.micro import command, counting
from bench.micro.caller import CALLS, handshakes, turns
from bench.micro.counting import NotThere, Replayed
from bench.micro.profile import Profile, print_profile, readable
from bench.micro.replays import REPLAYS
from bench.micro.versions import ROOT

CORE = min(os.sched_getaffinity(0))
SOURCE = Path(se_server.__file__).resolve().parents[1]

WRONG_HANDLER = """
import asyncio
from se_server import SpeechEngineServer
from bench.load.targets import API_KEY

async def on_transcript(transcript, session):
    await session.send_response("one chunk")

async def serve():
    server = SpeechEngineServer(port=0, host="127.0.0.1", api_key=API_KEY, on_transcript=on_transcript)
    serving = asyncio.create_task(server.serve())
    await server.wait_ready()
    print(f"ready {server.port}", flush=True)
    await serving

asyncio.run(serve())
"""

PROFILE = """\
# callgrind format
events: Ir
summary: 1000

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) loop
10 100
cob=(2) /here/_wire.cpython-311.so
cfi=(2) _wire.c
cfn=(2) __pyx_f_9se_server_8protocol_5_wire_decode
calls=2 5
+3 900

ob=(2)
fl=(2)
fn=(2)
5 700
* 50
cfn=(3) __pyx_pw_9se_server_8protocol_5_wire_6Buffer_7__len__
calls=1 9
-1 150

fn=(3)
9 150
"""


@pytest.fixture(scope="module")
def target() -> Iterator[Replayed]:
    """Return the target, run without valgrind: the same replays without counts."""
    with counting.replaying(SOURCE, None) as replayed:
        yield replayed


@pytest.mark.parametrize("name", counting.names())
def test_every_replay_runs_and_checks_its_result(target: Replayed, name: str) -> None:
    target.run(name)


def test_a_missing_part_is_distinct_from_a_fault(target: Replayed) -> None:
    with pytest.raises(NotThere, match="no-such-part"):
        target.run("no-such-part")


def test_wrong_answers_are_no_count() -> None:
    wrong = Target("wrong", (sys.executable, "-c", WRONG_HANDLER))
    counted: list[bool] = []
    with running(wrong, CORE) as server:
        with pytest.raises(BenchError, match=r"turn 1 .* wrong answer"):
            turns(server.port, counted.append, 20, chunks=4, history=6)
        assert counted == []
        handshakes(server.port, counted.append, 3, warm_up=1)
    assert counted == [True, False]


def test_five_percent_more_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.print_counts({"turn-1-4": 105_000}, {"turn-1-4": 100_000}, "base")
    row = f"| turn-1-4 | {CALLS['turn-1-4'].what} | 100,000 | 105,000 | +5.0% |"
    assert row in capsys.readouterr().out
    assert not command.print_counts({"turn-1-4": 105_001}, {"turn-1-4": 100_000}, "base")
    assert "TOO MUCH" in capsys.readouterr().out


def test_parts_new_since_the_base_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.print_counts({"ledger": 4_000}, {}, "base")
    assert f"| ledger | {REPLAYS['ledger'].what} | | 4,000 | new |" in capsys.readouterr().out


def test_without_valgrind_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["--compare", "HEAD"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: ")
    assert said.count("\n") == 1


def test_an_unknown_version_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valgrind = tmp_path / "valgrind"
    valgrind.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert command.main(["--compare", "no-such-version"]) == 2
    assert "no-such-version" in capsys.readouterr().err


def test_all_rows_of_a_table_give_equal_results() -> None:
    timed = subprocess.run(
        [sys.executable, "-m", "se_server.cli.bench", "micro", "--benchmark-disable"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert timed.returncode == 0, timed.stdout + timed.stderr
    assert " failed" not in timed.stdout


@pytest.mark.timeout(180)  # valgrind runs fifty times slower than the machine
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_instructions_are_those_of_the_replay_alone() -> None:
    both = counting.count(SOURCE, ["ledger", "ledger-again", "ledger"])
    assert list(both) == ["ledger", "ledger-again"]
    # Some thousands of a turn that is judged and remembered; the start of the interpreter alone takes millions.
    assert 500 < both["ledger"] < 50_000


def test_a_profile_lists_functions_and_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "callgrind.1"
    file.write_text(PROFILE)
    profile = Profile.read(file)
    assert profile.total == 1000
    print_profile(profile, "a message", units=10)
    told = capsys.readouterr().out
    assert "| _wire | 90 | 90.0% |" in told
    alone, _, inclusive = told.partition("with what it calls")
    assert "| `se_server.protocol._wire.decode` | 75 | 75.0% |" in alone
    assert "| `se_server.protocol._wire.decode` | 90 | 90.0% |" in inclusive
    assert "`loop`" not in inclusive


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("memcpy", "memcpy"),
        ("__pyx_f_9se_server_12conversation_5_pump_4Pump__advance", "se_server.conversation._pump.Pump._advance"),
        ("__pyx_pw_9se_server_8protocol_5_wire_6Buffer_7__len__", "se_server.protocol._wire.Buffer.__len__"),
        ("__pyx_pw_6uvloop_4loop_4Loop_39create_task", "uvloop.loop.Loop.create_task"),
    ],
)
def test_cython_names_are_shown_as_written(symbol: str, name: str) -> None:
    assert readable(symbol) == f"`{name}`"
