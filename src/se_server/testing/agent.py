"""Load and start the agent under test as a worker does."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import isawaitable
from pathlib import Path
from types import ModuleType
from typing import Any

from se_server.conversation.handlers import handler_name
from se_server.conversation.settings import SESSION_OPTIONS, SessionSettings
from se_server.errors import AppError, VirtualTimeError
from se_server.server.config.app import App, app_of, load_app
from se_server.types import Handler

SHUTDOWN_S = 10.0  # the timeout of a worker


class Agent:
    """One agent, shared by all callers of a test.

    Args:
        source: the APP argument of `se-server`, or the object itself: a module, a `SpeechEngineServer`, an object or a
            mapping with handlers, or a transcript handler.
        ids: returns the next conversation id.

    Raises:
        AppError: `source` is not an agent.
    """

    def __init__(self, source: object, ids: Callable[[], str]) -> None:
        self.source = source
        self.next_conversation_id = ids
        self._app = load(source)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None

    @property
    def module(self) -> str:
        """The name of the module of its handler of transcripts; empty if that is unknown."""
        return str(getattr(self._app.handlers.on_transcript, "__module__", None) or "")

    def check_loop(self) -> None:
        """Check that the agent runs on the current event loop.

        Raises:
            VirtualTimeError: it was started on another event loop.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise VirtualTimeError(
                "this caller's conversation began on another event loop, such as that of a fixture with a wider scope: "
                "use it in the test alone, or give fixture and test the same loop"
            )

    async def start(self, options: Mapping[str, Any]) -> tuple[App, SessionSettings]:
        """Run `on_startup` once. Return the agent and the settings of its conversations.

        Args:
            options: session options as keywords; they override those of a `SpeechEngineServer`.

        Raises:
            TypeError: there is no such option.
            ConfigError: an option's value is not valid.
        """
        loop = self._loop = asyncio.get_running_loop()
        own = {name: value for name, value in self._app.options.items() if name in SESSION_OPTIONS}
        settings = SessionSettings.of({**own, **options})
        if self._started is None:
            self._started = asyncio.ensure_future(_call(self._app.on_startup))
        await asyncio.shield(self._started)
        # Look `time` up at each call: virtual time replaces the method.
        return self._app, replace(settings, clock=lambda: loop.time())  # noqa: PLW0108

    async def stop(self) -> None:
        """Run `on_shutdown`, if the agent was started.

        Raises:
            AppError: it takes longer than the timeout of a worker.
        """
        if self._started is not None and self._started.done() and self._started.exception() is None:
            self._started = None
            try:
                await asyncio.wait_for(_call(self._app.on_shutdown), SHUTDOWN_S)
            except asyncio.TimeoutError:
                raise AppError(f"on_shutdown takes longer than the {SHUTDOWN_S:g} s that a worker allows") from None


def load(source: object) -> App:
    """Load an agent by name, or from an object.

    Raises:
        AppError: `source` is not an agent; the message is one sentence.
    """
    if source is None:
        raise AppError("there is no agent: se_app gave None instead of a module, an object or a name like 'app.py'")
    if isinstance(source, str):
        module = _imported(source)
        return load_app(source) if module is None else app_of(module, source)
    if isinstance(source, ModuleType):
        return app_of(source, source.__name__)
    return app_of(source, handler_name(source))


def conversation_ids() -> Callable[[], str]:
    """Return a counter of conversation ids: the same ids in every run of a test."""
    numbers = itertools.count(1)
    return lambda: f"conv_{next(numbers)}"


def _imported(source: str) -> ModuleType | None:
    """Return the module of a file that the test has imported, so that the test's patches take effect."""
    if not source.endswith(".py"):
        return None
    file = Path(source).resolve()
    module = sys.modules.get(file.stem)
    known = None if module is None else module.__file__
    return module if known is not None and Path(known).resolve() == file else None


async def _call(function: Handler | None) -> None:
    if function is not None:
        result = function()
        if isawaitable(result):
            await result
