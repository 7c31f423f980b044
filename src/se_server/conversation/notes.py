"""The log lines of conversations, limited in rate: a peer decides how many there would be.

Each conversation has at most `BURST` lines of one kind in `INTERVAL_S`; the next line of the kind, or the end of the
conversation, has the number of those that were left out.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Protocol, TextIO

from se_server.errors import HandlerMistake, MessageError, PeerError
from se_server.telemetry._printable import cut, printable, text_of
from se_server.telemetry.fields import Fields
from se_server.telemetry.guarded import guarded_logger
from se_server.telemetry.log_writer import LogWriter

log = guarded_logger("se_server.session")

BURST = 5
DEBUG_BURST = 20
INTERVAL_S = 10.0
MAX_KINDS = 32
MAX_ERROR_CHARACTERS = 1024
"""Kinds of lines of one conversation that are counted apart; all others share one count."""
DEBUG_LOGGER = "se_server.debug"
DEBUG_MARK = "[SpeechEngine]"
"""The mark of the published SDK's debug output."""
_FD_STDOUT = 1
_OTHERS = "further kinds"


class Noted(Protocol):
    """The part of a session that its log lines use."""

    conversation_id: str | None
    notes: Notes | None


class Notes:
    """The counts of log lines of one conversation. Made by its first line."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[str, list[float]] = {}  # kind -> end of its interval, lines in it, lines left out

    def admit(self, kind: str, burst: int = BURST) -> int:
        """Count a line.

        Returns:
            How many lines of its kind were left out before; -1 if this one is left out.
        """
        kinds = self._kinds
        if kind not in kinds and len(kinds) >= MAX_KINDS:
            kind = _OTHERS
        now = time.monotonic()
        count = kinds.get(kind)
        if count is None:
            kinds[kind] = [now + INTERVAL_S, 1, 0]
            return 0
        if now >= count[0]:
            count[0], count[1] = now + INTERVAL_S, 0
        if count[1] >= burst:
            count[2] += 1
            return -1
        count[1] += 1
        left_out, count[2] = int(count[2]), 0
        return left_out

    def left_out(self) -> int:
        """Return how many lines were left out that no later line has reported."""
        return int(sum(count[2] for count in self._kinds.values()))


def note(
    session: Noted, level: int, text: str, *args: object, kind: str = "", error: BaseException | None = None
) -> None:
    """Log a line about a conversation, unless it has had too many of this kind.

    Args:
        session: the conversation; its id begins the line.
        level: of `logging`.
        text: the format of the line. Texts of the peer among `args` must be cut.
        kind: lines of one kind are counted together; if empty, those of one `text`.
        error: the exception whose traceback is logged, if any.
    """
    if not log.isEnabledFor(level):
        return
    left_out = _notes_of(session).admit(kind or text)
    if left_out < 0:
        return
    if left_out:
        text, args = text + "; %d more of these were left out", (*args, left_out)
    log.log(level, "conversation %s: " + text, shown_id(session), *args, exc_info=error, extra=_ids(session))


def note_unhandled(session: Noted, error: BaseException) -> None:
    """Log an exception that no error handler gets: an error of user code, or a fault of the peer."""
    if isinstance(error, HandlerMistake):  # logged once for each handler and mistake
        return
    name = type(error).__name__
    if isinstance(error, MessageError | PeerError):
        note(session, logging.WARNING, "%s: %s", name, cut(text_of(error)), kind=name)
    else:
        text = text_of(error)  # it may have been made of what the caller said
        text = text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + " [...]"
        note(session, logging.ERROR, "%s: %s", name, text, kind=name, error=error)


def note_end(session: Noted) -> None:
    """Log how many lines of a conversation that ends were left out."""
    notes = session.notes
    if notes is not None and (left_out := notes.left_out()):
        log.warning("conversation %s: %d more log lines were left out", shown_id(session), left_out)


def shown_id(session: Noted) -> str | None:
    """Return the id of a conversation, cut and escaped, for logs and pages."""
    name = session.conversation_id
    return None if name is None else cut(name if isinstance(name, str) else text_of(name))


def _ids(session: Noted) -> dict[str, object]:
    return {"fields": Fields(conversation_id=shown_id(session))}


def _notes_of(session: Noted) -> Notes:
    notes = session.notes
    if notes is None:
        notes = session.notes = Notes()
    return notes


# --- debug output ---


class _Stdout:
    """Shows debug output on stdout, in processes without se-server's log."""

    def __init__(self) -> None:
        self._writer: LogWriter | None = None

    def show(self, line: str) -> None:
        """Print one line, escaped."""
        text = printable(line)
        stream: TextIO | None = sys.stdout
        try:
            is_descriptor = stream is sys.__stdout__ and stream is not None and stream.fileno() == _FD_STDOUT
        except (OSError, ValueError):  # closed, or an object without a descriptor
            is_descriptor = False
        if is_descriptor:
            if self._writer is None:
                self._writer = LogWriter(_FD_STDOUT)
            self._writer.put(f"{text}\n".encode("utf-8", "backslashreplace"))
        else:
            with contextlib.suppress(OSError, ValueError):  # a closed stream
                print(text, file=stream, flush=True)  # user code has replaced stdout


def debug(text: str, *args: object, session: Noted | None = None) -> None:
    """Show a line of debug output. It waits for no stream, and raises no exception.

    Args:
        session: the conversation that the line is about; it limits the rate of its lines.
    """
    left_out = 0 if session is None else _notes_of(session).admit(text, DEBUG_BURST)
    if left_out < 0:
        return
    line = (
        f"{DEBUG_MARK} {text % tuple(cut(text_of(arg)) if not isinstance(arg, int | float) else arg for arg in args)}"
    )
    if left_out:
        line += f"; {left_out} more of these were left out"
    if _stdout is None:
        guarded_logger(DEBUG_LOGGER).debug("%s", line, extra=None if session is None else _ids(session))
    else:
        _stdout.show(line)


def send_debug_to_log() -> None:
    """Send debug output to the log, in its format, instead of stdout."""
    global _stdout
    _stdout = None


_stdout: _Stdout | None = _Stdout()
