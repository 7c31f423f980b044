"""Figures and timelines of turns, held against what a caller counts and measures on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.functional.observing import BEARER, PAGE_LINE, Admin, observed_server
from tests.functional.processes import needs_proc, write_agent
from tests.helpers import (
    POLL_S,
    START_TIMEOUT_S,
    connect,
    init_message,
    ping_message,
    read_answer,
    read_message,
    running_server,
    transcript_message,
    wait_for_end,
)

pytestmark = needs_proc

# Each word of the caller is a kind of turn.
AGENT = """
    import asyncio, os, time
    def place(name):
        return os.path.join(os.path.dirname(__file__), name)
    async def thinking():
        await asyncio.sleep(0.25)                    # the provider
        for _ in range(3):
            yield {"choices": [{"delta": {"reasoning_content": "hm"}}]}
            await asyncio.sleep(0.1)                 # thinking, 0.3 s
        for text in ("one ", "two ", "three"):
            yield {"choices": [{"delta": {"content": text}}]}
            await asyncio.sleep(0.01)
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "empty":
            return
        if said == "fail":
            raise RuntimeError("as asked")
        if said == "wait":
            await session.send_response("twelve chars", final=False)
            await asyncio.sleep(3600)
        if said == "say nothing":
            await asyncio.sleep(3600)
        if said == "think":
            await asyncio.sleep(0.15)                # the handler
            await session.send_response(thinking())
            return
        if said == "block":
            open(place("blocked"), "w").close()
            while not os.path.exists(place("go")):
                time.sleep(0.01)
        await session.send_response("ok")
"""


async def get(admin: Admin, path: str) -> Any:
    status, text = await asyncio.to_thread(admin.get, path, BEARER)
    assert status == 200, text
    return json.loads(text)


async def slow_turns(admin: Admin, count: int) -> list[dict[str, Any]]:
    """Return the slow turns when there are as many."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        rows: list[dict[str, Any]] = (await get(admin, "/api/turns?slow=50"))["rows"]
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(POLL_S)


async def closed_conversation(admin: Admin, name: str) -> Any:
    """Return the only conversation of a name when it has ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        (row,) = (await get(admin, f"/api/conversations?find={name}"))["rows"]
        if row["state"] == "closed":
            return await get(admin, f"/api/conversations/{row['key']}")
        assert time.monotonic() < deadline, row
        await asyncio.sleep(POLL_S)


async def test_outcomes_are_those_that_a_caller_counts(tmp_path: Path) -> None:
    with observed_server(app=write_agent(tmp_path / "agent.py", AGENT)) as admin:
        async with connect(admin.server.url) as caller:
            said = ["hello", "hello", "empty", "fail", "wait", "say nothing", "hello", "wait"]
            for event_id, text in enumerate(said, 1):
                await caller.send(transcript_message(text, event_id=event_id))
                if text == "wait":
                    await read_message(caller)
                elif text != "say nothing":
                    await read_answer(caller)
            await caller.send(transcript_message("hello", event_id=2))  # again
        expected = {"answered": 3, "empty": 1, "failed": 1, "interrupted": 1, "superseded": 1, "closed": 1}
        await asyncio.to_thread(admin.wait_for_value, 1, "turns_total", outcome="closed")
        found = {outcome: admin.value("turns_total", outcome=outcome) for outcome in expected}
        assert found == expected
        assert admin.value("turn_first_text_seconds_count", source="handler") == 5
        assert admin.value("turn_yield_seconds_count") >= 1
        assert admin.value("wasted_characters_total", reason="interrupted") == len("twelve chars")
        assert admin.value("wasted_characters_total", reason="closed") == len("twelve chars")
        assert admin.value("transcripts_repeated_total", verdict="answered") == 1
        assert admin.value("conversation_turns_sum") == len(said)
        assert admin.value("ring_overflows_total") == 0


async def test_parts_add_up_to_what_a_caller_measures(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_parts"))
            began = time.monotonic()
            await caller.send(transcript_message("think", event_id=7))
            await read_message(caller)
            measured_s = time.monotonic() - began
            (turn,) = await slow_turns(admin, 1)
            assert turn["conversation"]["id"] == "conv_parts"
            assert (turn["event_id"], turn["outcome"]) == (7, "answered")
            socket_s, wait_s, handler_s, provider_s, thinking_s, write_s = turn["parts"]
            assert sum(turn["parts"]) == pytest.approx(turn["first_text_s"], rel=0.01)
            # A busy machine makes the caller late, never early.
            assert turn["first_text_s"] <= measured_s
            assert handler_s >= 0.14
            assert provider_s >= 0.24
            assert thinking_s >= 0.29
            assert write_s + wait_s + socket_s < measured_s - handler_s - provider_s - thinking_s + 0.01


async def test_a_blocked_loop_shows_as_time_in_the_socket(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as blocks, connect(admin.server.url) as waits:
            await waits.send(transcript_message("hello", event_id=1))
            await read_answer(waits)
            await blocks.send(transcript_message("block", event_id=1))
            while not (tmp_path / "blocked").exists():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            await waits.send(transcript_message("hello", event_id=2))
            await asyncio.sleep(0.4)  # the time in the socket
            (tmp_path / "go").touch()
            await read_answer(waits)
            rows = await slow_turns(admin, 3)
            (late,) = [row for row in rows if row["event_id"] == 2]
            assert late["parts"][0] > 0.2
            place = re.search(r"agent\.py:(\d+)$", late["blocked_by"])
            assert place
            assert "time.sleep" in app.read_text().splitlines()[int(place[1]) - 1]
            assert sum(late["parts"]) == pytest.approx(late["first_text_s"], rel=0.01)


async def test_a_timeline_names_every_step(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_é<b>"))
            await caller.send(transcript_message("think", event_id=1))
            await read_answer(caller)
            await caller.send(transcript_message("wait", event_id=2))
            await read_message(caller)
            await caller.send(transcript_message("hello", event_id=3))
            await read_answer(caller)
            await slow_turns(admin, 3)
            (row,) = (await get(admin, "/api/conversations?find=conv_"))["rows"]
            assert (row["id"], row["state"], row["turns"], row["interruptions"]) == ("conv_é<b>", "listening", 3, 1)
        found = await closed_conversation(admin, "conv_")
        assert (found["state"], found["end"]) == ("closed", "peer, 1000")
        kinds = [kind for _, kind, _ in found["events"]]
        steps = ["opened", "init", "transcript", "handler begins", "stream opened", "first event", "first text"]
        assert [kind for kind in kinds if kind != "arrived"][:7] == steps
        assert kinds[-1] == "closed"
        assert {"handler gone", "turn ended", "texts sent"} <= set(kinds)
        assert [turn["outcome"] for turn in found["turns"]] == ["answered", "interrupted", "answered"]
        times = [at_s for at_s, kind, _ in found["events"] if kind not in ("arrived", "first text", "closed")]
        assert times == sorted(times)


async def test_a_killed_worker_leaves_its_timelines(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        (worker,) = [row["pid"] for row in admin.overview()["workers"]]
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_killed"))
            await caller.send(transcript_message("wait", event_id=1))
            await read_message(caller)
            await caller.send(ping_message())
            assert (await read_message(caller))["type"] == "pong"  # the worker has noted what it has sent
            os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(admin.wait_for_value, 1, "conversations_closed_total", cause="worker_died", code="1006")
        found = await closed_conversation(admin, "conv_killed")
        assert found["end"] == "worker died"
        assert found["events"][-1][1] == "texts sent"


async def test_old_conversations_are_seen_through_two_upgrades(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    pidfile, path = tmp_path / "pid", str(tmp_path / "ctl")
    options = ("--pidfile", str(pidfile), "--control-socket", path, "--drain-timeout-s", "0")
    with observed_server(*options, app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        server = admin.server
        async with connect(server.url) as oldest, connect(server.url) as old:
            supervisors = [server.pid]
            for caller, name in ((oldest, "conv_oldest"), (old, "conv_second")):
                await caller.send(init_message(name))
                await caller.send(transcript_message("hello", event_id=1))
                await read_answer(caller)
            for event_id in (2, 3):
                os.kill(supervisors[-1], signal.SIGUSR2)
                server.wait_for_output(rf"(?s)(?:{PAGE_LINE.pattern}.*){{{event_id}}}", START_TIMEOUT_S)
                supervisors.append(int(pidfile.read_text()))
                await oldest.send(transcript_message("hello", event_id=event_id))
                await read_answer(oldest)
                rows = await slow_turns(admin, event_id + 1)
                seen = {(row["conversation"]["id"], row["event_id"]) for row in rows}
                assert seen == {("conv_second", 1), *(("conv_oldest", number) for number in range(1, event_id + 1))}
            assert len(json.loads(await run_ctl(path, "turns", "--json"))["turns"]) == 4
            (row,) = (await get(admin, "/api/conversations?find=conv_oldest"))["rows"]
            assert (row["state"], row["turns"]) == ("listening", 3)
            await oldest.close()
            assert (await closed_conversation(admin, "conv_oldest"))["end"] == "peer, 1000"
            os.kill(supervisors[0], signal.SIGKILL)  # its worker ends with it, and nobody notes that
            server.wait()
            assert (await closed_conversation(admin, "conv_second"))["end"] is not None
        os.kill(supervisors[-1], signal.SIGTERM)
        wait_for_end(supervisors[1:])


async def test_exemplars_name_the_conversation_of_a_bucket(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_exemplar"))
            await caller.send(transcript_message("hello", event_id=1))
            await read_answer(caller)
            await slow_turns(admin, 1)
            _, text = admin.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
            assert '# {conversation_id="conv_exemplar"}' in text
        _, text = admin.get("/metrics")
        assert "conv_exemplar" not in text


async def test_se_ctl_shows_slow_turns_and_figures(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    path = str(tmp_path / "ctl.sock")
    limits = ("--control-socket", path, "--max-sessions", "9")
    with observed_server(*limits, app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(init_message("conv_slow"))
            for event_id, text in enumerate(("hello", "think"), 1):
                await caller.send(transcript_message(text, event_id=event_id))
                await read_answer(caller)
            shown = [line for line in (await run_ctl(path, "turns", "--slow", "1")).splitlines() if line.strip()]
            assert shown[0].split()[:3] == ["conversation", "turn", "first"]
            assert shown[2].split()[:2] == ["conv_slow", "2"]
            rows = json.loads(await run_ctl(path, "turns", "--json"))["turns"]
            assert [row["event_id"] for row in rows] == [2, 1]
            status = await run_ctl(path, "status")
            for part in (
                f"at ws://127.0.0.1:{admin.server.port}",
                f"page and metrics: http://127.0.0.1:{admin.place}/",
                "limits: max_sessions 9",
                "turns since the start: 2 answered",
                "refused since the start: nobody",
            ):
                assert part in status, status
            assert max(map(len, status.splitlines())) <= 200


async def test_se_ctl_says_how_turns_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "ctl.sock")
    with running_server("--control-socket", path, workers=1, api_key=None):
        assert "start it with --admin" in await run_ctl(path, "turns", code=1)


async def run_ctl(path: str, *args: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "se_server.cli.ctl", "--socket", path, *args]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr
