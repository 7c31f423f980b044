"""A request as the provider saw it: its body, the tokens made for it, and when its client left."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from tests.providers.script import Script

Json = dict[str, Any]

# Longer than anything a test waits for; shorter than the limit of a whole test.
WAIT_S = 20.0


class Request:
    """One request. Times are of `time.monotonic()`, which all processes of a machine share.

    Attributes:
        api: The API's name, as in `base_url()`.
        model: The model asked for.
        path, headers, body: The request; header names are in lower case, the body is decoded JSON.
        script: The script that answers it.
        streamed: Whether a stream was asked for.
        came_s: When the request had been read.
        head_s: When the response's head was written.
        token_times_s: When each token was written.
        ended_s: When the response ended, whole or not.
        disconnected_s: When the client's disconnect was seen before the response's end; None: it was not.
        lag_s: The furthest that the provider fell behind the script's pace.
        blocked: How often the response waited for a client that did not read.
    """

    def __init__(self, api: str, model: str, path: str, headers: Json, body: Json, *, streamed: bool) -> None:
        self.api = api
        self.model = model
        self.path = path
        self.headers = headers
        self.body = body
        self.streamed = streamed
        self.script = Script()
        self.came_s = time.monotonic()
        self.head_s: float | None = None
        self.token_times_s: array[float] = array("d")
        self.ended_s: float | None = None
        self.disconnected_s: float | None = None
        self.lag_s = 0.0
        self.blocked = 0
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._go_on: Callable[[], None] | None = None
        self._gone_on = False

    def __repr__(self) -> str:
        state = "disconnected" if self.disconnected_s else "ended" if self.ended_s else "open"
        return f"<Request {self.api} {self.model} {state}, {self.tokens} tokens>"

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return len(self.token_times_s)

    def tokens_after(self, at_s: float) -> int:
        """Return how many tokens were written after a time of `time.monotonic()`, an interruption's for example."""
        return len(self.token_times_s) - bisect_right(self.token_times_s, at_s)

    def go_on(self) -> None:
        """Send what follows the script's `hold_after`."""
        self._gone_on = True
        if self._go_on is not None:
            self._go_on()

    async def produced(self, tokens: int, timeout_s: float = WAIT_S) -> None:
        """Wait until that many tokens were written.

        Raises:
            AssertionError: they were not within `timeout_s`, or the response ended before.
        """
        await self.until(lambda: self.tokens >= tokens or self.ended_s is not None, timeout_s, f"{tokens} tokens")
        assert self.tokens >= tokens, f"{self} ended before {tokens} tokens"

    async def ended(self, timeout_s: float = WAIT_S) -> None:
        """Wait until the response ended, or its client left.

        Raises:
            AssertionError: neither happened within `timeout_s`.
        """
        await self.until(lambda: self.ended_s is not None, timeout_s, "its end")

    async def disconnected(self, timeout_s: float = WAIT_S) -> float:
        """Wait until the client left inside the response, and return when that was seen.

        Raises:
            AssertionError: it did not within `timeout_s`, or it read the response to the end.
        """
        await self.ended(timeout_s)
        assert self.disconnected_s is not None, f"{self}: the client read the response to its end"
        return self.disconnected_s

    def as_json(self) -> Json:
        """Return times and counts for another process."""
        return {
            **{name: getattr(self, name) for name in ("api", "model", "path", "streamed", "came_s", "head_s")},
            **{name: getattr(self, name) for name in ("tokens", "ended_s", "disconnected_s", "lag_s")},
            "token_times_s": self.token_times_s.tolist(),
        }

    async def until(self, reached: Callable[[], bool], timeout_s: float = WAIT_S, wanted: str = "a change") -> None:
        """Wait until something holds; it is looked at when a token was written, a client blocked, or the end came.

        Raises:
            AssertionError: it did not within `timeout_s`.
        """
        if reached():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((reached, waiter))
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise AssertionError(f"{self} waited {timeout_s:g} s for {wanted}") from None

    # --- for the sender ---------------------------------------------------------------------------------------------

    def wrote(self, tokens: int, at_s: float) -> None:
        """Count tokens just written."""
        for _ in range(tokens):
            self.token_times_s.append(at_s)
        if self._waiters:
            self.changed()

    def changed(self) -> None:
        """Wake those whose wait is over."""
        for entry in [entry for entry in self._waiters if entry[0]()]:
            self._waiters.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def on_go_on(self, callback: Callable[[], None]) -> None:
        """Register what `go_on()` calls; it is called now if `go_on()` came before."""
        self._go_on = callback
        if self._gone_on:
            callback()

    def end(self, *, disconnected: bool) -> None:
        """Note the end of the response."""
        if self.ended_s is None:
            self.ended_s = time.monotonic()
            self.disconnected_s = self.ended_s if disconnected else None
            self.changed()
