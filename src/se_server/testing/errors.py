"""Keep the exceptions of the agent's handlers for the test, without the server's own frames."""

from __future__ import annotations

import traceback

from se_server.conversation.naming import traceback_of_users
from se_server.conversation.session import SpeechEngineSession


class WatchedSession(SpeechEngineSession):
    """A session that keeps unhandled exceptions instead of logging them."""

    unhandled: list[BaseException]

    def _log_unhandled(self, error: BaseException) -> None:
        self.unhandled.append(error)


def with_own_frames(error: BaseException) -> BaseException:
    """Remove the server's frames from the beginning of a traceback, so that it starts in the agent."""
    return error.with_traceback(traceback_of_users(error))


def as_text(error: BaseException) -> str:
    """Format an error with its traceback, starting in the agent."""
    return "".join(traceback.format_exception(type(error), error, traceback_of_users(error))).rstrip()
