"""What the agent's handlers raise: kept for the test, and shown without the server's own frames."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from se_server.conversation.handlers import Handlers
from se_server.types import ERROR

_PACKAGE = str(Path(__file__).resolve().parents[1])


class ErrorCollector:
    """The callbacks of an agent, and beside its `on_error` a list of the errors that nothing of the agent's handles.

    Attributes:
        handlers: the callbacks, to be given to sessions.
    """

    def __init__(self, handlers: Handlers, unhandled: list[BaseException]) -> None:
        self._unhandled = unhandled
        # An agent that handles its errors is left alone.
        self.handlers = handlers if handlers.on_error is not None else replace(handlers, on_error=self._collect)

    def _collect(self, error: BaseException, session: Any) -> Awaitable[object] | None:
        # Called as the server's callback, before what the session has registered, and forgotten, for itself.
        if not any(registry and registry.get(ERROR) for registry in (session._permanent, session._once)):
            self._unhandled.append(error)
        return None


def with_own_frames(error: BaseException) -> BaseException:
    """Cut the server's frames off the beginning of a traceback, so that it starts in the agent."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        traceback = traceback.tb_next
    return error if traceback is None else error.with_traceback(traceback)
