"""Text logs: one record, one line."""

from __future__ import annotations

import logging
import os
import re

import pytest

from se_server.observe.logs import DescriptorHandler, LineFormatter


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("se_server.test", logging.WARNING, __file__, 1, message, args, exc_info)


def caught() -> ValueError:
    try:
        raise ValueError("bad\nvalue")
    except ValueError as error:
        return error


def test_a_line_tells_time_level_pid_and_logger() -> None:
    line = LineFormatter().format(record("hello %s", "you"))
    pattern = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z WARNING \[{os.getpid()}\] se_server\.test: hello you"
    assert re.fullmatch(pattern, line)


def test_what_a_peer_sent_cannot_begin_a_line_of_its_own() -> None:
    line = LineFormatter().format(record("path %s", "/\n2026 ERROR forged\r\x1b[2J"))
    assert line.endswith(r"path /\n2026 ERROR forged\r\x1b[2J")
    assert line.isprintable()


def test_a_traceback_stays_on_the_line_unless_people_read_it() -> None:
    line = LineFormatter().format(record("failed", error=caught()))
    assert "\n" not in line
    assert r"failed | Traceback (most recent call last):\n" in line
    lines = LineFormatter(multiline=True).format(record("failed", error=caught())).splitlines()
    assert lines[0].endswith("failed")
    assert lines[1] == "Traceback (most recent call last):"


def test_a_record_is_written_at_once_whatever_it_holds() -> None:
    reader, writer = os.pipe()
    handler = DescriptorHandler(writer)
    handler.setFormatter(LineFormatter())
    handler.handle(record("half an emoji \ud83d"))
    os.close(writer)
    with open(reader, "rb") as file:
        (line,) = file.readlines()
    assert line.endswith(b"half an emoji \\ud83d\n")


def test_a_closed_descriptor_loses_the_record_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = DescriptorHandler(writer)
    handler.handle(record("nobody reads"))
    os.close(writer)
    assert capsys.readouterr().err == ""
