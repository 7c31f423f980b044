"""A pytest test of a recorded conversation, which passes as it stands."""

from __future__ import annotations

import re
import time
from pathlib import PurePath

from se_server.errors import CallerError
from se_server.recordings.records import Recorded, Turn, turns_of

_SHOWN = 70


def source_of(recorded: Recorded, path: str, app: str | None = None) -> str:
    """Return the source of a test that replays a recording.

    Args:
        recorded: the recording.
        path: its file, as the test names it.
        app: the APP, as the test names it; by default the name of its file.

    Raises:
        CallerError: the recording has no texts.
    """
    if not recorded.has_texts:
        raise CallerError(
            "the recording has no texts, so it cannot be replayed: record with --record redacted, or full"
        )
    name = str(recorded.conversation_id or "unnamed")
    began_at_s = recorded.header.get("began_at_s")
    when = "" if began_at_s is None else time.strftime(", of %Y-%m-%d at %H:%M UTC", time.gmtime(float(began_at_s)))
    options = recorded.header.get("options") or {}
    marked = [repr(app or app_of(recorded)), *(f"{name}={value!r}" for name, value in options.items())]
    lines = [
        f'"""The conversation {_comment(name)}{when}.',
        "",
        "The test passes as it stands: it says how the agent's turns ended. Change a line to what should have",
        "happened, and the test fails until the agent does it.",
        '"""',
        "",
        "import pytest",
        "",
        f"pytestmark = pytest.mark.se_app({', '.join(marked)})",
        "",
        "",
        f"def test_{_identifier(name)}(se_replay):",
        f"    replay = se_replay({path!r}{_llm_of(recorded)})",
    ]
    turns = turns_of(recorded)
    for number, turn in enumerate(turns):
        lines += _lines_of(number, turn)
    if not turns:
        lines.append("    assert replay.turns == []")
    return "\n".join(lines) + "\n"


def app_of(recorded: Recorded) -> str:
    """Return the APP of a recording by the name of its file, without the directories of the server's machine."""
    app = recorded.header.get("app")
    if not isinstance(app, str):
        return "se_server.demo"
    file, dot, rest = app.partition(".py")
    return PurePath(file).name + dot + rest if dot else app


def _llm_of(recorded: Recorded) -> str:
    """Return the argument by which the recorded events of an LLM take its place, if there are some."""
    return ', llm="auto"' if any(note.get("kind") == "stream" for note in recorded.notes) else ""


def _lines_of(number: int, turn: Turn) -> list[str]:
    lines = [""]
    if turn.said is not None:
        lines.append(f"    # The user: {_comment(turn.said)}")
    if turn.text.strip():
        after = "" if turn.first_text_s is None else f", after {turn.first_text_s:.2f} s"
        lines.append(f"    # The agent{after}: {_comment(turn.text)}")
    lines.append(f"    assert replay.turns[{number}].outcome == {turn.outcome!r}")
    return lines


def _comment(text: str) -> str:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return re.sub(r"[^ -~\u00a1-\u1fff…]|[\\\"]", lambda found: "'" if found[0] == '"' else " ", shown)


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:60].lower() or "conversation"
