"""Text logs: one record, one line."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading

import pytest

from se_server.observe.logs import LINE_BYTES, DescriptorHandler, JsonFormatter, LineFormatter, write_all


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


def test_text_of_a_peer_cannot_begin_a_line() -> None:
    line = LineFormatter().format(record("path %s", "/\n2026 ERROR forged\r\x1b[2J"))
    assert line.endswith(r"path /\n2026 ERROR forged\r\x1b[2J")
    assert line.isprintable()


def test_a_traceback_is_multiline_only_for_people() -> None:
    line = LineFormatter().format(record("failed", error=caught()))
    assert "\n" not in line
    assert r"failed | Traceback (most recent call last):\n" in line
    lines = LineFormatter(multiline=True).format(record("failed", error=caught())).splitlines()
    assert lines[0].endswith("failed")
    assert lines[1] == "Traceback (most recent call last):"


def test_each_record_is_written_at_once() -> None:
    reader, writer = os.pipe()
    handler = DescriptorHandler(writer)
    handler.setFormatter(LineFormatter())
    handler.handle(record("half an emoji \ud83d"))
    os.close(writer)
    with open(reader, "rb") as file:
        (line,) = file.readlines()
    assert line.endswith(b"half an emoji \\ud83d\n")


def test_a_closed_descriptor_loses_only_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = DescriptorHandler(writer)
    handler.handle(record("nobody reads"))
    os.close(writer)
    assert capsys.readouterr().err == ""


def test_nothing_that_a_peer_sent_commands_a_terminal() -> None:
    line = LineFormatter().format(record("said %s", "a\x9b2J\x08\u202eb\u2028c\td"))
    assert line.endswith("said a\\x9b2J\\x08\\u202eb\\u2028c\td")


def test_json_has_the_fields_of_the_record() -> None:
    told = record("conversation ended: %s", "x=1", error=caught())
    told.event = "conversation ended"
    told.fields = {"code": 1000, "reason": "by\ne\ud83d", "first_chunk_max_s": None}
    body = json.loads(JsonFormatter().format(told))
    assert (body["level"], body["pid"], body["logger"]) == ("warning", os.getpid(), "se_server.test")
    assert body["message"] == "conversation ended"
    assert body["exception"].startswith("Traceback (most recent call last):\n")
    assert body["exception"].endswith("ValueError: bad\nvalue")
    assert (body["code"], body["reason"], body["first_chunk_max_s"]) == (1000, "by\\ne\\ud83d", None)


def test_messages_of_agents_keep_their_lines() -> None:
    """In JSON, and at a terminal, where no further line can pass for a record; otherwise a record is one line."""
    told = record("first\n2026 ERROR second")
    told.name, told.dish = "agent", "soup\nbread"
    body = json.loads(JsonFormatter().format(told))
    assert (body["message"], body["dish"]) == ("first\n2026 ERROR second", "soup\nbread")
    assert "agent: first\n    2026 ERROR second dish=" in LineFormatter(multiline=True).format(told)
    assert r"agent: first\n2026 ERROR second dish=" in LineFormatter().format(told)


@pytest.mark.parametrize("formatter", [LineFormatter(limit_bytes=LINE_BYTES), JsonFormatter(limit_bytes=LINE_BYTES)])
def test_a_long_record_is_split_into_lines(formatter: LineFormatter) -> None:
    said = "é\n" * 5000
    lines = formatter.format(record("%s.", said)).split("\n")
    assert all(len(line.encode()) < LINE_BYTES for line in lines)
    is_json = isinstance(formatter, JsonFormatter)
    texts = [json.loads(line)["message"] if is_json else line.partition("test: ")[2] for line in lines]
    assert "".join(texts) == "é\\n" * 5000 + "."


def test_lines_of_several_writers_never_mix() -> None:
    reader, writer = os.pipe()
    handlers = [DescriptorHandler(writer) for _ in range(4)]  # each with its own lock, as in separate processes
    for handler in handlers:
        handler.setFormatter(LineFormatter(limit_bytes=LINE_BYTES))

    def write(place: int) -> None:
        for _ in range(50):
            handlers[place].handle(record(str(place) * 9000))

    threads = [threading.Thread(target=write, args=(place,)) for place in range(len(handlers))]
    for thread in threads:
        thread.start()
    counts = dict.fromkeys("0123", 0)
    with open(reader, encoding="utf-8") as file:
        while sum(counts.values()) < 4 * 50 * 9000:
            text = file.readline().partition("test: ")[2].rstrip("\n")
            assert set(text) == {text[0]}
            counts[text[0]] += len(text)
    for thread in threads:
        thread.join()
    os.close(writer)
    assert set(counts.values()) == {50 * 9000}


def test_a_signal_ends_no_write_early() -> None:
    reader, writer = os.pipe()
    interrupted = threading.Event()
    got = bytearray()

    def read() -> None:
        interrupted.wait(10)  # the pipe is full until then, and the write blocks
        while data := os.read(reader, 1 << 16):
            got.extend(data)

    thread = threading.Thread(target=read)
    before = signal.signal(signal.SIGALRM, lambda *_: interrupted.set())
    thread.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        write_all(writer, b"x" * 1_000_000)
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(writer)
        thread.join()
        os.close(reader)
    assert interrupted.is_set()
    assert len(got) == 1_000_000
