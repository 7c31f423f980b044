"""The log lines of one conversation: cut, escaped and limited in rate."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from se_server.conversation import notes
from se_server.conversation.notes import BURST, INTERVAL_S, MAX_KINDS, Notes, debug, note, note_end, note_unhandled
from se_server.errors import PeerError


class Conversation:
    def __init__(self, conversation_id: str | None = "conv_1") -> None:
        self.conversation_id = conversation_id
        self.notes: Notes | None = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(notes.time, "monotonic", lambda: now[0])
    return now


def test_a_kind_has_few_lines_an_interval(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    conversation = Conversation()
    for _ in range(600):
        note(conversation, logging.WARNING, "%s dropped", "error")
    note(conversation, logging.WARNING, "another kind")
    assert len(caplog.messages) == BURST + 1
    clock[0] += INTERVAL_S
    note(conversation, logging.WARNING, "%s dropped", "error")
    assert caplog.messages[-1] == f"conversation conv_1: error dropped; {600 - BURST} more of these were left out"


def test_the_end_counts_the_rest(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    conversation = Conversation()
    for _ in range(BURST + 7):
        note(conversation, logging.WARNING, "dropped")
    note_end(conversation)
    assert caplog.messages[-1] == "conversation conv_1: 7 more log lines were left out"
    quiet = Conversation()
    note(quiet, logging.WARNING, "dropped")
    note_end(quiet)
    assert "left out" not in caplog.messages[-1]


def test_a_peer_cannot_make_kinds(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    conversation = Conversation()
    for number in range(10_000):
        note(conversation, logging.WARNING, "seen", kind=str(number))
    assert len(caplog.messages) <= MAX_KINDS + BURST


def test_errors_of_a_peer_hide_none_of_a_handler(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    conversation = Conversation()
    for _ in range(100):
        note_unhandled(conversation, PeerError("\x1b[2J" * 100_000))
    note_unhandled(conversation, ValueError("mine"))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * BURST + ["ERROR"]
    assert max(map(len, caplog.messages)) < 200
    assert all(message.isprintable() for message in caplog.messages)
    assert caplog.records[-1].exc_info


@pytest.mark.parametrize("name", ["\x7f" * 1_000_000, "a\nb" * 1000, "\u202e" * 1000])
def test_an_id_is_cut_and_escaped(caplog: pytest.LogCaptureFixture, name: str) -> None:
    note(Conversation(name), logging.WARNING, "dropped")
    (message,) = caplog.messages
    assert message.isprintable()
    assert len(message) <= len("conversation : dropped") + 128


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Broken(), "closed"])
def test_debug_output_needs_no_stream(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | str | None) -> None:
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(notes, "_stdout", notes._Stdout())
    monkeypatch.setattr(sys, "stdout", stream)
    debug("received %s", "x", session=Conversation())


def test_debug_output_is_escaped_and_limited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    monkeypatch.setattr(notes, "_stdout", notes._Stdout())
    conversation = Conversation()
    for _ in range(600):
        debug("ignored %s", "\x9b\n" * 1000, session=conversation)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == notes.DEBUG_BURST
    assert all(line.isprintable() and len(line) < 200 for line in lines)
