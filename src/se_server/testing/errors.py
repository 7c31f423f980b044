"""What the agent's handlers raise: kept for the test, and shown without the server's own frames."""

from __future__ import annotations

import traceback
from types import TracebackType

from se_server.conversation.session import SpeechEngineSession


class WatchedSession(SpeechEngineSession):
    """A session that keeps, instead of logging it, what neither a callback nor a handler of its own takes."""

    unhandled: list[BaseException]

    def _log_unhandled(self, error: BaseException) -> None:
        self.unhandled.append(error)


def with_own_frames(error: BaseException) -> BaseException:
    """Cut the server's frames off the beginning of a traceback, so that it starts in the agent."""
    return error.with_traceback(_own_frames(error))


def as_text(error: BaseException) -> str:
    """Show an error with its traceback from the agent on."""
    return "".join(traceback.format_exception(type(error), error, _own_frames(error))).rstrip()


def _own_frames(error: BaseException) -> TracebackType | None:
    first = error.__traceback__
    # By the module: compiled code has no file's path in its frames.
    while first is not None and str(first.tb_frame.f_globals.get("__name__")).startswith("se_server."):
        first = first.tb_next
    return first or error.__traceback__
