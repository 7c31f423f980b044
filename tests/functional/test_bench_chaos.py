"""A short chaos finds no fault of our server, and detects an agent that cuts conversations of unharmed workers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the chaos looks into /proc", allow_module_level=True)

from bench import chaos, chaos_callers

CUTTING = """
import os

async def on_transcript(transcript, session):
    await session.send_response(str(os.getpid()))
    session.close()
"""


@pytest.fixture(autouse=True)
def the_machine_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of handshakes is not judged here: that needs a calm machine."""
    monkeypatch.setattr(chaos_callers, "HANDSHAKE_S", chaos_callers.GIVE_UP_S)
    monkeypatch.setattr(chaos_callers, "IN_FLIGHT_S", 1.0)


def test_a_harmed_worker_loses_only_its_own_conversations() -> None:
    """Workers are killed, stopped, hung, and leak; the conversations that are cut can be read afterwards."""
    tally = chaos.run(0.4, calls=30, workers=3, record="shape")
    assert tally.faults == []
    assert len(tally.harms) >= 3  # killed, stopped, hung
    assert tally.leaks
    assert tally.cut
    assert any(tally.cut_names.values())


def test_a_harmed_zygote_loses_no_conversation() -> None:
    """The zygote is killed and stopped just before a worker, which starts without it."""
    tally = chaos.run(0.3, calls=20, workers=3, harms=("kill", "stop"), preload="httpx")
    assert tally.faults == []
    assert tally.zygotes >= 2
    assert tally.harms


def test_a_recording_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    lost = chaos_callers.Tally(cut_names={"conv_1": 1, "conv_2": 0})
    chaos.check_recordings(tmp_path, lost)
    assert lost.faults == ["conv_1 was cut after 1 answers, and there is no recording of it"]


def test_a_conversation_cut_without_harm_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_callers, "THINK_S", (0.0, 0.1))
    agent = tmp_path / "agent.py"
    agent.write_text(CUTTING)
    tally = chaos.run(0.05, calls=2, workers=1, harms=(), agent=agent)
    assert any("which was not harmed, was cut" in fault for fault in tally.faults)
