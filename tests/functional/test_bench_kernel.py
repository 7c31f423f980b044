"""The kernel measures a correct server, and refuses figures of a wrong one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark kernel is for Linux", allow_module_level=True)

from bench.kernel import BenchError, Server, Target, connect, measure, memory_of, running
from bench.load.targets import API_KEY, TARGETS
from bench.load.targets.handler import WORDS
from se_server.load import LoadPlan, LoadProcess
from tests.helpers import wait_for_end

CORE = min(os.sched_getaffinity(0))


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
def loaded(target: Target) -> Iterator[tuple[Server, LoadProcess]]:
    """Start a target and a generator connected to it."""
    with running(target, CORE) as server:
        plan = LoadPlan(
            url=server.url,
            api_key=API_KEY,
            conversations=4,
            chunks=8,
            history=6,
            expected_words=WORDS,
            resend_after_s=None,
        )
        with LoadProcess(plan, core=CORE) as load:
            connect(load)
            yield server, load


def test_a_sample_counts_exactly_the_requested_turns() -> None:
    with loaded(TARGETS["plain picows"]) as (server, load):
        sample = measure(server, load, core=CORE, seconds=10, turns=400)
        assert sample.turns == 400
        assert 1 < sample.cpu_us_per_turn < 1e5
        assert sample.first_chunk.count == sample.final.count == 400


def test_cpu_time_of_children_and_threads_is_exact() -> None:
    program = """if 1:
        import os, threading, time
        def burn(clock, seconds):
            end = clock() + seconds
            while clock() < end:
                pass
        if os.fork() == 0:
            thread = threading.Thread(target=lambda: (burn(time.thread_time, 0.1), time.sleep(60)), daemon=True)
            thread.start()
            burn(time.thread_time, 0.2)
            while time.process_time() < 0.3:
                time.sleep(0.001)
            print("ready", time.process_time_ns(), flush=True)
        time.sleep(60)
    """
    with running(Target("forks", (sys.executable, "-c", program)), CORE) as server:
        own_ns = server.port  # the child's own account
        account = server.cpu()
        parent = sum(ran for (pid, _), ran in account.ran_ns.items() if pid == server.pid)
        assert len({pid for pid, _ in account.ran_ns}) == 2
        assert len(account.ran_ns) == 3
        assert 0.97 * own_ns < sum(account.ran_ns.values()) - parent < 1.1 * own_ns
        assert server.cpu().since(account) < 1e7


def test_memory_is_that_of_the_tree_without_files() -> None:
    program = """if 1:
        import os, sys, time
        held = os.urandom(int(sys.argv[1]))
        if os.fork() == 0:
            own = os.urandom(int(sys.argv[2]))
            print("ready 1", flush=True)
        time.sleep(60)
    """

    def memory(shared: int, own: int) -> int:
        with running(Target("holds", (sys.executable, "-c", program, str(shared), str(own))), CORE) as server:
            return memory_of(server.pid)

    little, much = memory(1, 1), memory(20_000_000, 10_000_000)
    assert little < 20_000_000
    assert much - little == pytest.approx(30_000_000, rel=0.05)


SEND = "right(self, text, is_final=is_final)"
WRONG_SERVERS = {
    "chunk left out": (f"if text != ' well': {SEND}", "7 texts, and should be 8"),
    "other text": ("right(self, text.replace('well', 'ill'), is_final=is_final)", "and should be ' well'"),
    "chunk of another turn": (
        f"self._event_id ^= text == ' well'; {SEND}; self._event_id ^= text == ' well'",
        "7 texts, and should be 8",
    ),
    "binary frame": (f"self._transport.send(plain.WSMsgType.BINARY, b'no'); {SEND}", "a binary message"),
    "hangs up": ("self._transport.disconnect()", "the server"),
}


@pytest.mark.parametrize(("send", "complaint"), WRONG_SERVERS.values(), ids=WRONG_SERVERS)
def test_a_wrong_server_gets_no_figure(send: str, complaint: str) -> None:
    with loaded(faulty(send)) as (server, load), pytest.raises(BenchError, match=complaint):
        measure(server, load, core=CORE, seconds=30, turns=400)


def test_a_target_that_cannot_start_is_quoted() -> None:
    target = Target("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"))
    with pytest.raises(BenchError, match="broken ended with status 1; it said: no such thing"), running(target, CORE):
        pass


def test_a_terminated_benchmark_stops_its_target() -> None:
    program = """if 1:
        import sys, time
        from bench.kernel import Target, running
        target = Target("sleeps", (sys.executable, "-c", "import time; print('ready 1', flush=True); time.sleep(60)"))
        with running(target, None) as server:
            print(server.pid, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        target_pid = int(benchmark.stdout.readline())
        benchmark.terminate()
        assert benchmark.wait(10) == 128 + signal.SIGTERM
    wait_for_end([target_pid])


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
    with pytest.raises(BenchError, match="HTTP 404"), loaded(refusing):
        pass
