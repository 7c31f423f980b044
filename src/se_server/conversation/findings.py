"""Logs what shows only when handlers run: mistakes, once each, and handlers that outlive their turn."""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

from se_server.conversation.awaits import forgotten_await
from se_server.conversation.blocking import where
from se_server.conversation.mistakes import mistake_in
from se_server.conversation.naming import handler_name, traceback_of_users
from se_server.conversation.notes import Noted, note
from se_server.protocol.turn import Turn
from se_server.telemetry._printable import text_of
from se_server.types import ERROR, USER_TRANSCRIPT, Handler

NOTHING_ANSWERS = (
    "nothing answers the user: pass on_transcript=, or register a handler by session.on('user_transcript', ...)"
)

MAX_MISTAKES = 1000

_mistaken: set[tuple[str, str]] = set()
"""The names of handlers and their mistakes that were logged."""

_ended_twice: set[str] = set()
"""The names of handlers that were logged for a second final in a turn."""

_doubted: set[tuple[str, str]] = set()
"""Handlers, and the kinds of events that their answers did not speak, that were logged."""

MAX_DOUBTED = 1024
"""A program that makes classes on the fly must not fill the log, or memory."""


def turn_mistake(session: Noted, handler: Handler, result: object, is_silent: bool) -> str | None:
    """Return the mistake that the result of a turn's handler shows, if any, and log it."""
    mistake = mistake_in(handler, USER_TRANSCRIPT, result, is_silent)
    if mistake is not None:
        _log_mistake(session, handler_name(handler), mistake)
    return mistake


def event_mistake(session: Noted, event: str, handler: Handler, result: object) -> str | None:
    """Log the mistake that the result of an event's handler shows; return it if it is to be an `error` event."""
    mistake = mistake_in(handler, event, result)
    if mistake is not None:
        _log_mistake(session, handler_name(handler), mistake)
    return None if event == ERROR else mistake


def silence_mistake(session: Noted, calls: list[tuple[Handler, tuple[Any, ...]]]) -> str | None:
    """Return why a turn's handlers have sent nothing, where their source shows it, and log it."""
    for handler, args in calls:
        mistake = forgotten_await(handler, args)
        if mistake is not None:
            _log_mistake(session, handler_name(handler), mistake)
            return mistake
    if not calls:
        _log_mistake(session, "", NOTHING_ANSWERS)
    return None


def log_second_final(session: Noted, handler: Handler | None) -> None:
    """Log a handler that ended a second answer in its turn, once for each handler."""
    name = "a handler" if handler is None else f"handler {handler_name(handler)}"
    if name not in _ended_twice:
        _ended_twice.add(name)
        note(
            session,
            logging.WARNING,
            "%s ended a second answer in one turn, which the API may not play: pass final=False to all send_response() "
            "of a turn but the last, or end answers with their turn: finals='turn'",
            name,
            kind="second final",
        )


def log_doubt(session: Noted, handler: Handler | None, doubt: tuple[bool, str, str]) -> None:
    """Log what is odd about an answer that was no failure, once for each handler and kind.

    Args:
        session: the conversation.
        handler: the handler that sent the answer, if it is known.
        doubt: whether it is surely a mistake, its kind, and the sentence.
    """
    is_mistake, kind, text = doubt
    name = "a handler" if handler is None else f"handler {handler_name(handler)}"
    if (name, kind) not in _doubted and len(_doubted) < MAX_DOUBTED:
        _doubted.add((name, kind))
        level = logging.WARNING if is_mistake else logging.INFO
        note(session, level, "an answer of %s: %s", name, text, kind="unspoken")


def forget_doubts() -> None:
    """Have odd answers logged once more."""
    _doubted.clear()


def _log_mistake(session: Noted, name: str, mistake: str) -> None:
    if (name, mistake) not in _mistaken and len(_mistaken) < MAX_MISTAKES:
        _mistaken.add((name, mistake))
        note(session, logging.ERROR, "%s", mistake, kind="mistake")


def log_stray_failure(session: Noted, handler: Handler | None, event: str, error: BaseException) -> None:
    """Log the exception of a handler that nobody waits for any more."""
    error.__traceback__ = traceback_of_users(error)
    note(session, logging.ERROR, "%s failed after it was cancelled", _name(handler, event), error=error)


def log_stray(session: Noted, handler: Handler | None, event: str, awaited: object, after_s: float) -> None:
    """Log a handler that still runs so long after it was cancelled.

    Args:
        session: its conversation.
        handler: the user's code; None if it has not begun.
        event: what it handles.
        awaited: its coroutine, which shows where it stands.
        after_s: seconds since it was cancelled.
    """
    stack = [where(frame) for frame in frames_of(awaited)]
    note(
        session,
        logging.WARNING,
        "%s still runs %.1f s after it was cancelled; it stands at %s",
        _name(handler, event),
        after_s,
        ", called from ".join(reversed(stack)) or "an unknown place",
    )


def _name(handler: Handler | None, event: str) -> str:
    return f"a handler of {event}" if handler is None else f"handler {handler_name(handler)}"


def held_bytes(args: tuple[object, ...]) -> int:
    """Return about the memory that the arguments of an event take."""
    return sum(map(_held_bytes, args))


def _held_bytes(arg: object) -> int:
    if isinstance(arg, Turn):
        return 0 if arg.said is None else sys.getsizeof(arg.said)
    if isinstance(arg, BaseException):
        return sys.getsizeof(text_of(arg))
    return sys.getsizeof(arg) if isinstance(arg, str) else 8 * len(repr(arg))  # an odd id, which is short


def frames_of(coroutine: Any) -> list[FrameType]:
    """Return the frames of a suspended coroutine, outermost first."""
    frames: list[FrameType] = []
    while coroutine is not None:
        frame = _first_of(coroutine, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append(frame)
        coroutine = _first_of(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _first_of(target: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(target, name, None)) is not None), None)
