"""Load scripts from TOML, from Python files and from recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se_server.errors import CallerError, ScriptError
from se_server.simulator.habits import Habits
from se_server.simulator.recording import Record, load_recording
from se_server.simulator.script import Replay, Script, Step, parse_script
from se_server.toml_file import parse_toml

MAX_SCRIPT_BYTES = 1024 * 1024


def load_script(path: Path) -> Script:
    """Load a script: `.toml`, `.py`, or a recording in `.jsonl`.

    Raises:
        ScriptError: the file cannot be read, or its content is wrong; the message names file, step and key.
    """
    if path.suffix == ".py":
        return _load_python(path)
    if path.suffix in (".jsonl", ".ndjson"):
        try:
            records = load_recording(path)
        except CallerError as error:
            raise ScriptError(str(error)) from None
        return script_of_recording(records, name=path.name)
    if path.suffix != ".toml":
        raise ScriptError(f"{path}: a script ends in .toml or .py, a recording in .jsonl")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SCRIPT_BYTES + 1)
        if len(data) > MAX_SCRIPT_BYTES:
            raise ScriptError(f"{path}: larger than {MAX_SCRIPT_BYTES // 1024} KiB, the limit of a script")
        content = parse_toml(data)
    except OSError as error:
        raise ScriptError(f"{path}: cannot read the script: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ScriptError(f"{path}: not valid TOML: {error}") from None
    return parse_script(content, str(path), path.name)


# --- Python and recordings ------------------------------------------------------------------------------------------


def _load_python(path: Path) -> Script:
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)
    except OSError as error:
        raise ScriptError(f"{path}: cannot read the script: {error.strerror or error}") from None
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line_in(error, path)
        raise ScriptError(f"{path}, line {line}: {type(error).__name__}: {error}") from None
    conversation = names.get("conversation")
    if not callable(conversation):
        raise ScriptError(f"{path}: a Python script defines `async def conversation(caller)`, and this one does not")
    habits = names.get("habits")
    if habits is not None and not isinstance(habits, Habits):
        raise ScriptError(f"{path}: habits are {habits!r}: use a Habits(...) of se_server.simulator.habits")
    return Script(name=path.name, conversation=conversation, habits=habits)


def _line_in(error: BaseException, path: Path) -> int:
    """Return the line of the script at which an exception was raised."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def script_of_recording(records: list[Record], name: str = "recording") -> Script:
    """Return a script that sends a recording's messages, each once as much was heard as in the recording.

    Raises:
        ScriptError: the recording has no message of the API.
    """
    steps: list[Step | Replay] = []
    newest = _Newest()
    conversation_id = None
    last_s = 0.0
    is_open = False
    drop_gap_s: float | None = None
    for record in records:
        gap_s, last_s = max(0.0, record.t_s - last_s), record.t_s
        if record.direction == "in":
            newest.heard(record.content)
        elif record.kind == "open":
            if is_open:
                steps.append(Replay(None, gap_s, newest.chars, newest.is_final))
            is_open, drop_gap_s = True, None
        elif record.kind == "drop":
            drop_gap_s = gap_s
        elif record.kind in ("text", "binary") and record.content is not None:
            message = _message(record.content)
            if message.get("type") == "init":  # each connection sends its own
                conversation_id = conversation_id or message.get("conversation_id")
                continue
            steps.append(Replay(record.content, gap_s, newest.chars, newest.is_final))
            newest.said(message)
    if not is_open:
        raise ScriptError(f"{name}: the recording has no conversation")
    if drop_gap_s is not None:
        steps.append(Replay(None, drop_gap_s, newest.chars, newest.is_final, hangs_up=True))
    return Script(name=name, steps=tuple(steps), conversation_id=conversation_id)


@dataclass
class _Newest:
    """The progress of the newest answer at a point of a recording."""

    event_id: object = None
    chars: int = 0
    is_final: bool = False
    known: set[object] = field(default_factory=set)

    def said(self, message: Mapping[str, Any]) -> None:
        event_id = message.get("event_id")
        if message.get("type") == "user_transcript" and event_id not in self.known:
            self.known.add(event_id)
            self.event_id, self.chars, self.is_final = event_id, 0, False

    def heard(self, content: str | bytes | None) -> None:
        message = {} if content is None else _message(content)
        if message.get("type") == "agent_response" and message.get("event_id") == self.event_id:
            self.chars += len(str(message.get("content", "")))
            self.is_final = self.is_final or bool(message.get("is_final"))


def _message(content: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
