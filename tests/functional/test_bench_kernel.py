"""A benchmark is worth what its checks are: it measures a good server, and refuses figures from a wrong one."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark kernel is for Linux", allow_module_level=True)

from bench.kernel import BenchError, Load, Server, Target, measure, running
from bench.load.conversations import Scenario
from bench.load.targets import API_KEY, TARGETS

SCENARIO = Scenario(chunks=8, history=6, conversations=4)


def faulty(send: str) -> Target:
    """Return the plain picows server with another body for `send(self, text, *, is_final)`."""
    program = f"""
import uvloop
import bench.load.targets.picows_plain_target as plain
right = plain.Session.send
def send(self, text, *, is_final):
{textwrap.indent(textwrap.dedent(send), "    ")}
plain.Session.send = send
uvloop.run(plain.serve())
"""
    return Target("faulty", (sys.executable, "-c", program))


@contextmanager
def loaded(target: Target) -> Iterator[tuple[Server, Load]]:
    """Start a target and a generator that is connected to it."""
    core = min(os.sched_getaffinity(0))
    with running(target, core) as server:
        command = [sys.executable, "-m", "bench.load.generator", server.url, *SCENARIO.options()]
        with Load(command, core, {"ELEVENLABS_API_KEY": API_KEY}) as load:
            yield server, load


def test_a_sample_counts_exactly_the_turns_asked_for_and_the_time_of_the_target() -> None:
    with loaded(TARGETS["plain picows"]) as (server, load):
        sample = measure(server, load, seconds=10, turns=400)
        assert sample.turns == 400
        assert 1 < sample.cpu_us_per_turn < 1e5
        assert load.run(10, 400)["verified_in_full"] > 0


def test_the_time_of_child_processes_counts() -> None:
    program = """if 1:
        import os, time
        if os.fork() == 0:
            while time.process_time() < 0.2:
                pass
            print("ready 1", flush=True)
        time.sleep(60)
    """
    with running(Target("forks", (sys.executable, "-c", program)), min(os.sched_getaffinity(0))) as server:
        account = server.cpu()
        assert len({pid for pid, _ in account.ran_ns}) == 2
        assert sum(account.ran_ns.values()) > 0.2e9


@pytest.mark.parametrize(
    ("send", "complaint"),
    [
        ("if text != ' well': right(self, text, is_final=is_final)", "after 7 chunks: expected 8 chunks"),
        ("right(self, text.replace('well', 'ill'), is_final=is_final)", "expected the text ' well'"),
        ("self._event_id += text == ' well'; right(self, text, is_final=is_final)", "wrong final"),
        ("self._event_id += is_final; right(self, text, is_final=is_final)", "wrong final"),
        ("is_final or right(self, text, is_final=False)", "said nothing|without an answer"),
        ("self._transport.disconnect()", "closed the connection"),
    ],
    ids=["chunk left out", "other text", "id changes midway", "final of another turn", "no final", "hangs up"],
)
def test_a_wrong_server_gets_no_figure(send: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.kernel.ANSWER_GRACE_S", 1.0)
    with loaded(faulty(send)) as (server, load), pytest.raises(BenchError, match=complaint):
        measure(server, load, seconds=10 if "is_final or" not in send else 0.2, turns=400)


def test_a_target_that_cannot_start_is_quoted() -> None:
    target = Target("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"))
    with pytest.raises(BenchError, match="broken ended with status 1; it said: no such thing"), running(target, 0):
        pass


def test_a_server_that_refuses_the_token_is_named() -> None:
    refusing = Target(
        "refuses",
        (
            sys.executable,
            "-c",
            "import uvloop; import bench.load.targets.picows_plain_target as plain;"
            "plain.new_session = lambda request: None; uvloop.run(plain.serve())",
        ),
    )
    with pytest.raises(BenchError, match="cannot connect to ws://"), loaded(refusing):
        pass
