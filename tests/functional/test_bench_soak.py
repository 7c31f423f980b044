"""The soak finds no growth in our server, and detects the leak of a handler."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the soak looks into /proc", allow_module_level=True)

from bench import soak
from bench.kernel import BenchError, Target, running

CORE = min(os.sched_getaffinity(0))
SESSIONS = 300

LEAKY = """
import os

async def on_transcript(transcript, session):
    os.dup(0)
    await session.send_response("Well, that depends.")
"""


def with_app(app: Path, *options: str) -> Target:
    """Return the soak's own server with another APP."""
    command = [str(app) if part.endswith("handler.py") else part for part in soak.TARGET.command]
    return dataclasses.replace(soak.TARGET, command=(*command, *options))


def test_hundreds_of_sessions_leave_no_descriptor_behind() -> None:
    with running(soak.TARGET, CORE) as server:
        looks = soak.soak(server, SESSIONS, rounds=3)
    assert [look.sessions for look in looks] == [0, 100, 200, 300]
    assert soak.faults(looks) == []


def test_a_leaked_descriptor_is_found(tmp_path: Path) -> None:
    app = tmp_path / "leaky_handler.py"
    app.write_text(LEAKY)
    with running(with_app(app), CORE) as server:
        looks = soak.soak(server, 60, rounds=2, kinds=("ended by the API",))
    (fault,) = soak.faults(looks)
    assert "descriptors" in fault


def test_memory_is_judged_over_the_last_sessions() -> None:
    def look(sessions: int, resident_kib: int) -> soak.Look:
        return soak.Look(sessions, 1.0, resident_kib, resident_kib, 16)

    start = [look(0, 10_000), look(50_000, 30_000), look(100_000, 31_000)]
    assert soak.faults([*start, look(200_000, 32_023)]) == []
    (fault,) = soak.faults([*start, look(200_000, 32_024)])
    assert "+1,024 KiB" in fault


def test_a_server_that_answers_otherwise_is_no_soak() -> None:
    with (
        running(with_app(soak.HANDLER, "--path", "/elsewhere"), CORE) as server,
        pytest.raises(BenchError, match="404"),
    ):
        soak.soak(server, SESSIONS)
