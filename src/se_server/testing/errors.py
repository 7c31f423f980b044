"""What the agent's handlers raise: kept for the test, and shown without the server's own frames."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable
from dataclasses import replace
from types import TracebackType
from typing import Any

from se_server.conversation.handlers import Handlers
from se_server.types import ERROR


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
