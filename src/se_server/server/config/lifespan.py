"""An APP's `on_startup` that yields, as lifespans of web frameworks do: one function starts the APP and stops it."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from se_server.conversation.mistakes import is_generator_function
from se_server.types import Handler


def is_lifespan(function: Handler) -> bool:
    """Whether a function yields once between start and stop: a generator function, also as a context manager."""
    return is_generator_function(function) or is_generator_function(inspect.unwrap(function))


class Lifespan:
    """An `on_startup` that yields: the code before its `yield` starts the APP, the code behind it stops the APP.

    Args:
        function: a generator function, plain or async, or one that `contextlib` made a context manager of.
        on_shutdown: called before the code behind the `yield`; or None.
    """

    def __init__(self, function: Handler, on_shutdown: Handler | None) -> None:
        self._function = function
        self._on_shutdown = on_shutdown
        self._entered = AsyncExitStack()

    async def start(self) -> None:
        """Run the code before the `yield`.

        Raises:
            RuntimeError: there was no `yield` on its way.
        """
        result: Any = self._function()
        if inspect.isasyncgen(result):
            result = asynccontextmanager(lambda: result)()
        elif inspect.isgenerator(result):
            result = contextmanager(lambda: result)()
        elif inspect.isawaitable(result):
            result = await result
        if hasattr(result, "__aenter__"):
            await self._entered.enter_async_context(result)
        elif hasattr(result, "__enter__"):
            self._entered.enter_context(result)

    async def stop(self) -> None:
        """Run `on_shutdown`, then the code behind the `yield`, also if the former fails.

        Raises:
            RuntimeError: it yields a second time.
        """
        try:
            if self._on_shutdown is not None:
                result = self._on_shutdown()
                if inspect.isawaitable(result):
                    await result
        finally:
            await self._entered.aclose()
