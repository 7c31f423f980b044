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

CORE = min(os.sched_getaffinity(0))
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
    with running(target, CORE) as server:
        command = [sys.executable, "-m", "bench.load.generator", server.url, *SCENARIO.options()]
        with Load(command, CORE, {"ELEVENLABS_API_KEY": API_KEY}) as load:
            yield server, load


def test_a_sample_counts_exactly_the_turns_asked_for_and_the_time_of_the_target() -> None:
    with loaded(TARGETS["plain picows"]) as (server, load):
        sample = measure(server, load, core=CORE, seconds=10, turns=400)
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
    with running(Target("forks", (sys.executable, "-c", program)), CORE) as server:
        account = server.cpu()
        assert len({pid for pid, _ in account.ran_ns}) == 2
        assert sum(account.ran_ns.values()) > 0.2e9


SEND = "right(self, text, is_final=is_final)"
WRONG_SERVERS = {
    "chunk left out": (f"if text != ' well': {SEND}", "expected 8 chunks, got 7"),
    "other text": ("right(self, text.replace('well', 'ill'), is_final=is_final)", "expected the text ' well'"),
    "id changes midway": (f"self._event_id += text == ' well'; {SEND}", "wrong final"),
    "chunk of another turn": (
        f"self._event_id ^= text == ' well'; {SEND}; self._event_id ^= text == ' well'",
        "' well'",
    ),
    "final of another turn": (f"self._event_id += is_final; {SEND}", "wrong final"),
    "no final": (f"is_final or {SEND}", "said nothing"),
    "binary frame": (f"self._transport.send(plain.WSMsgType.BINARY, b'no'); {SEND}", "no whole text frame"),
    "hangs up": ("self._transport.disconnect()", "closed the connection"),
}


@pytest.mark.parametrize(("send", "complaint"), WRONG_SERVERS.values(), ids=WRONG_SERVERS)
def test_a_wrong_server_gets_no_figure(send: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.kernel.ANSWER_GRACE_S", 1.0)
    with loaded(faulty(send)) as (server, load), pytest.raises(BenchError, match=complaint):
        measure(server, load, core=CORE, seconds=0.5, turns=400)


def test_a_target_that_cannot_start_is_quoted() -> None:
    target = Target("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"))
    with pytest.raises(BenchError, match="broken ended with status 1; it said: no such thing"), running(target, CORE):
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
