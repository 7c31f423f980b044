"""A `serve()` in a program of `se-server run`, as the worker that serves in its place sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class CapturedServe:
    """One `serve()`.

    Args:
        server: the `SpeechEngineServer`.
        is_ready: called with the port when conversations are accepted.
        stop_asked: set when the program calls `stop()`.
    """

    def __init__(self, server: object, is_ready: Callable[[int], None], stop_asked: asyncio.Event) -> None:
        self.server = server
        self.is_ready = is_ready
        self._stop_asked = stop_asked

    async def wait_stop(self) -> None:
        """Return when the program has called `stop()`."""
        await self._stop_asked.wait()
