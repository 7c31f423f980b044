"""Keep the exceptions of the agent's handlers for the test, without the server's own frames."""

from __future__ import annotations

import traceback
from types import TracebackType

from se_server.conversation.session import SpeechEngineSession


class WatchedSession(SpeechEngineSession):
    """A session that keeps unhandled exceptions instead of logging them."""

    unhandled: list[BaseException]

    def _log_unhandled(self, error: BaseException) -> None:
        self.unhandled.append(error)


def with_own_frames(error: BaseException) -> BaseException:
    """Remove the server's frames from the beginning of a traceback, so that it starts in the agent."""
    return error.with_traceback(_own_frames(error))


def as_text(error: BaseException) -> str:
    """Format an error with its traceback, starting in the agent."""
    return "".join(traceback.format_exception(type(error), error, _own_frames(error))).rstrip()


def _own_frames(error: BaseException) -> TracebackType | None:
    first = error.__traceback__
    # Compare modules: frames of compiled code have no file path.
    while first is not None and str(first.tb_frame.f_globals.get("__name__")).startswith("se_server."):
        first = first.tb_next
    return first or error.__traceback__
