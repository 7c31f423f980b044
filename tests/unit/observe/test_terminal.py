"""The form of the log on a terminal."""

from __future__ import annotations

import logging
import re
import time

import pytest

from se_server.observe.terminal import TerminalFormatter, wants_colours
from se_server.telemetry.fields import Fields

ENDED = Fields(
    conversation_id="conv_8789b18a676eaa36da64",
    remote="127.0.0.1:55118",
    path="/ws",
    duration_s=61.25,
    turns=12,
    interruptions=2,
    first_chunk_p50_s=0.412,
    first_chunk_max_s=1.2,
    code=1000,
    reason="close message",
)


def record(
    message: str, level: int = logging.INFO, name: str = "se_server.server", **more: object
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, message, (), None)
    made.__dict__.update(more)
    return made


def shown(made: logging.LogRecord, *, colours: bool = False) -> str:
    return TerminalFormatter(colours=colours).format(made)


def test_a_line_has_the_time_without_date_and_no_logger() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO  stopped", shown(record("stopped")))
    assert re.fullmatch(r"\S+ WARN  agent: careful", shown(record("careful", logging.WARNING, "agent")))


def test_yesterday_has_its_date() -> None:
    made = record("stopped")
    made.created = time.time() - 86400 * 2
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:", shown(made))


def test_the_end_of_a_conversation_fits_120_columns() -> None:
    line = shown(record("conversation ended: ...", event="conversation ended", fields=ENDED))
    assert line.endswith(
        "conv_8789b18a676eaa36da64: 12 turns in 61 s, 2 interrupted, first text 412 ms, close message (1000)"
    )
    assert len(line) <= 120
    one = Fields({**ENDED, "turns": 1, "interruptions": 0, "first_chunk_p50_s": None, "code": None, "reason": ""})
    assert shown(record("", event="conversation ended", fields=one)).endswith(": 1 turn in 61 s, ended")


@pytest.mark.parametrize("fields", [{}, {"conversation_id": 1}, {"turns": "x"}, None])
def test_a_record_made_by_hand_keeps_its_message(fields: object) -> None:
    assert shown(record("as it is", event="conversation ended", fields=fields)).endswith("INFO  as it is")


def test_text_of_a_peer_commands_no_terminal() -> None:
    evil = Fields({**ENDED, "conversation_id": "x\x1b[2J\n", "reason": "\x1b]0;bye\x07"})
    assert "\x1b" not in shown(record("", event="conversation ended", fields=evil))


@pytest.mark.parametrize(
    ("level", "style"), [(logging.DEBUG, "2"), (logging.WARNING, "1;33"), (logging.ERROR, "1;31"), (logging.INFO, "")]
)
def test_levels_have_colours(level: int, style: str) -> None:
    line = shown(record("x", level), colours=True)
    name = f"{logging.getLevelName(level)[:5].replace('WARNI', 'WARN'):<5}"
    assert (f"\x1b[{style}m{name}\x1b[0m" if style else f"\x1b[0m {name} x") in line


def test_a_traceback_is_one() -> None:
    try:
        raise ValueError("no model")
    except ValueError as error:
        made = record("failed", logging.ERROR, exc_info=(type(error), error, error.__traceback__))
    lines = shown(made).splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no model"


def test_colours_follow_the_environment() -> None:
    assert wants_colours({"TERM": "xterm"})
    for environ in ({}, {"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}):
        assert not wants_colours(environ)
