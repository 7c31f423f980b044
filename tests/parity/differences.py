"""The differences that stay on purpose; `python -m tests.parity.differences` writes them into docs/migrating.md.

`test_differences.py` shows each of them under both packages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
BEGIN, END = "<!-- differences: begin -->\n", "<!-- differences: end -->"


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        key: the name of its test in `test_differences.py`, without `test_`.
        subject: the subject, as a row's first cell.
        published, ours: the behaviours.
        why: the reason for the difference.
    """

    key: str
    subject: str
    published: str
    ours: str
    why: str


DIFFERENCES = (
    Difference(
        "loggers_have_other_names",
        "Names of loggers",
        "`elevenlabs.speech_engine`",
        "`se_server` and its children",
        "one prefix selects everything of the server",
    ),
    Difference(
        "messages_are_compact",
        "JSON on the wire",
        "blanks after `:` and `,`; other characters than ASCII as `\\uXXXX`",
        "no blanks; UTF-8",
        "fewer bytes for each chunk; the JSON values are the same",
    ),
    Difference(
        "frames_are_not_compressed",
        "Compression of `serve()`",
        "`permessage-deflate`, if the client offers it",
        "none",
        "short texts hardly shrink, and each connection would hold a compressor's memory",
    ),
    Difference(
        "private_attributes_differ",
        "Private attributes",
        "`session._ws`, `_closed`, `_current_task`, `server._server`",
        "not there; `session.headers`, `path`, `query`, `remote`, `turn` and `server.port` are public",
        "the session runs on a connection that is no WebSocket object",
    ),
    Difference(
        "messages_cannot_be_changed",
        "`message.content = ...`",
        "changes the message",
        "an `AttributeError`; `message.model_copy(update=...)` returns another message",
        "the messages of unchanged entries are used again in later transcripts",
    ),
    Difference(
        "unknown_events_are_refused",
        "`session.on()` with an unknown event",
        "is registered and never called",
        "a `ValueError` that names the closest event",
        "a misspelt name is found at the start",
    ),
    Difference(
        "unknown_keywords_are_refused",
        "`SpeechEngineServer(on_transcripts=...)`",
        "ignored",
        "a `TypeError` that names the closest keyword",
        "a misspelt name is found at the start",
    ),
    Difference(
        "closing_a_session_is_an_event",
        "Handlers of `close` after `session.close()`",
        "do not run",
        "run once",
        "clean-up needs one place",
    ),
    Difference(
        "a_bad_entry_does_not_end_the_conversation",
        "A transcript entry without a text",
        "ends the conversation",
        "is left out, with one `error` event",
        "the history is cumulative: every later transcript would hold the entry again",
    ),
    Difference(
        "an_answered_transcript_is_not_answered_again",
        "An answered transcript, sent again",
        "its handler runs again",
        "no handler runs",
        "a second answer costs a second LLM call, and its side effects come twice",
    ),
    Difference(
        "a_silent_handler_is_finalised",
        "A handler that sends nothing",
        "leaves the turn open",
        'one blank and the final are sent; `empty_answer_text=""` sends the final alone ([answers.md](answers.md))',
        "the API asks again until it gives up",
    ),
    Difference(
        "debug_prints_no_texts",
        "`debug=True` and a string answer",
        "prints the text",
        "prints no texts",
        "the words of callers and agents are personal data",
    ),
)


def table() -> str:
    """Return the differences as a Markdown table."""
    rows = [f"| {each.subject} | {each.published} | {each.ours} | {each.why} |" for each in DIFFERENCES]
    return "\n".join(["| | published SDK | se-server | why |", "| --- | --- | --- | --- |", *rows]) + "\n"


def write(page: str) -> str:
    """Return the page with the current table."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
