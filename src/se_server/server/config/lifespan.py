"""An APP's `on_startup` that yields, as lifespans of web frameworks do: one function starts the APP and stops it."""

from __future__ import annotations

import functools
import inspect
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    _AsyncGeneratorContextManager,
    _GeneratorContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

from se_server.conversation.mistakes import is_generator_function
from se_server.types import Handler

_MANAGERS = (AbstractAsyncContextManager, AbstractContextManager)


def is_lifespan(function: Handler) -> bool:
    """Whether a function makes a context manager of start and stop: by a `yield`, or as a class with both methods."""
    if isinstance(function, type):
        return issubclass(function, _MANAGERS)
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    return is_generator_function(plain) or is_generator_function(inspect.unwrap(plain))


def is_open(result: object) -> bool:
    """Whether an `on_startup` has made a start and a stop that nobody runs: its result was neither entered nor awaited.

    A pool that is returned has been opened by then, so only generators and what `contextlib` makes of them count.
    """
    return (
        inspect.isgenerator(result)
        or inspect.isasyncgen(result)
        or isinstance(result, (_AsyncGeneratorContextManager, _GeneratorContextManager))
    )


class Lifespan:
    """An `on_startup` that yields: the code before its `yield` starts the APP, the code behind it stops the APP.

    Args:
        function: a generator function, plain or async, one that `contextlib` made a context manager of, a class with
            `__aenter__` or `__enter__`, or any function: the generator or manager that it returns is entered.
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
        if inspect.isawaitable(result):
            result = await result
        if not isinstance(self._function, type) and not is_open(result):
            return
        if inspect.isasyncgen(result):
            result = asynccontextmanager(lambda: result)()
        elif inspect.isgenerator(result):
            result = contextmanager(lambda: result)()
        if isinstance(result, AbstractAsyncContextManager):
            await self._entered.enter_async_context(result)
        elif isinstance(result, AbstractContextManager):
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
