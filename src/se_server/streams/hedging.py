"""Hedges: several streams for one answer, of which the first to give text is spoken.

Each contender is a `Stream` with a turn and a sink of its own, in a task of its own, which opens, iterates and closes
it. So a contender is anything that `send_response` takes, and its text is read by the same rules.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from se_server.protocol.turn import SUPERSEDED, Turn
from se_server.streams._hedge import Collector, Texts
from se_server.streams._scan import Usage
from se_server.streams._stream import Stream, open_stream
from se_server.streams.forms import name_of
from se_server.streams.naming import describe_hedge
from se_server.telemetry._clock import Clock, clock_of
from se_server.telemetry._printable import cut, text_of
from se_server.types import TokenUsage

log = logging.getLogger("se_server.session")

CLOSE_S = 0.5
STREAM_METHODS = ("__aiter__", "__anext__", "__await__", "__aenter__", "__iter__", "__next__", "__enter__")

_MISSING: Any = object()

_tasks: set[asyncio.Task[None]] = set()
"""Tasks of contenders that may be closing still; the event loop holds no strong reference to a task."""


def first_of(primary: Any, backup: Any = _MISSING, *others: Any, after_s: float = 1.2) -> FirstOf:
    """Hedge an answer: the backup starts when the primary has given no text in time, and the first to speak wins.

    Pass the result to `send_response`. A contender that fails, or ends without text, before another has spoken has
    lost; the next starts at once. The losers are closed, so that their requests end. `session.turn.winner` tells which
    was spoken: 0 is the primary, 1 the backup.

    Example:
        The requests are made when the contenders start, since they are coroutines that were not awaited:

            from se_server import first_of

            async def on_transcript(transcript, session):
                messages = as_openai(transcript)
                primary = fast.responses.create(model="gpt-5", input=messages, stream=True)
                backup = lambda: other.chat.completions.create(model="small", messages=messages, stream=True)
                await session.send_response(first_of(primary, backup, after_s=1.2))

    Args:
        primary: what `send_response` takes, such as a stream, a coroutine that returns one, or a text; or a function
            without arguments that returns one of these, and that is called when the contender starts.
        backup: the same; a text is a last resort that cannot fail.
        others: further backups, each `after_s` later.
        after_s: the time until the next contender starts, in seconds; 0: all start at once.

    Raises:
        TypeError: there is no backup, or a contender can be no answer, such as None.
        ValueError: `after_s` is not a time.
    """
    if backup is _MISSING:
        hint = (
            ": pass the members of a list with a star, first_of(*streams)" if isinstance(primary, list | tuple) else ""
        )
        raise TypeError(f"first_of takes a primary and at least one backup, each as an argument of its own{hint}")
    return FirstOf((primary, backup, *others), after_s)


class FirstOf:
    """What `first_of` returns: an async iterable of the texts of the contender that is the first to give one.

    Attributes:
        winner: the place of the contender that is spoken, counted from 0; None before, and where none has text.
    """

    def __init__(self, contenders: tuple[Any, ...], after_s: float) -> None:
        if isinstance(after_s, bool) or not isinstance(after_s, (int, float)) or not 0 <= after_s < math.inf:
            raise ValueError(f"first_of takes the seconds until the next stream starts as after_s=, not {after_s!r}")
        for place, contender in enumerate(contenders):
            if contender is None or isinstance(contender, bool | int | float):
                raise TypeError(f"first_of takes streams and texts: number {place + 1} is {contender!r}")
        self.winner: int | None = None
        self._after_s = after_s
        self._waiting = list(contenders)
        self._runs: list[_Run] = []
        self._turn: Turn | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate without a conversation."""
        return self._single_texts()

    async def _single_texts(self) -> AsyncGenerator[str, None]:
        lists = self._race({"clock": clock_of(time.monotonic), "close_s": CLOSE_S, "takeover": True, "options": {}})
        try:
            async for texts in lists:
                for text in texts:
                    yield text
        finally:
            await lists.aclose()

    async def start(self, opening: Any) -> Texts:
        """Return the iterator for a stream; `opening` is that stream's."""
        self._turn = opening.turn
        return Texts(
            self._race(
                {
                    "clock": opening.clock,
                    "close_s": opening.close_s,
                    "takeover": opening.takes_over,
                    "options": opening.options,
                }
            )
        )

    @property
    def doubt(self) -> tuple[bool, str, str] | None:
        """The doubt about the contender that was spoken, or about all: none gave text; see `Stream.doubt`."""
        if self.winner is not None:
            return self._runs[self.winner].doubt
        found = next((run.doubt for run in self._runs if run.doubt is not None), None)
        return None if found is None else (True, "first_of", describe_hedge(len(self._runs), found[2]))

    async def aclose(self) -> None:
        """Close all contenders, also those that were never started."""
        self._close_all()
        if self._runs:
            await asyncio.wait([run.task for run in self._runs])

    async def _race(self, settings: Mapping[str, Any]) -> AsyncGenerator[list[str], None]:
        is_whole = False
        try:
            winner = await self._find_winner(settings)
            self._close_all(winner)
            while winner is not None:
                texts = winner.sink.take()
                if texts:
                    yield texts
                elif winner.sink.has_ended:
                    break
                else:
                    await winner.sink.news()
            self._raise_failure(winner)
            is_whole = True
        finally:
            self._count_usage()
            self._close_all()
            if not is_whole and self._runs:  # else the end of the answer does not wait for them
                await asyncio.wait([run.task for run in self._runs])

    async def _find_winner(self, settings: Mapping[str, Any]) -> _Run | None:
        """Start one contender after another until one gives text; None: all have ended without."""
        loop = asyncio.get_running_loop()
        running: list[_Run] = []
        starts_at = loop.time()
        while True:
            for run in running:
                if run.sink.is_heard:
                    self._note_winner(run)
                    return run
            for run in [run for run in running if run.sink.has_ended]:
                running.remove(run)
                starts_at = loop.time()
                if self._waiting or running:
                    self._log_loss(run)
            left_s = starts_at - loop.time()
            if self._waiting and (left_s <= 0 or not running):
                run = _Run(self._waiting.pop(0), len(self._runs), **settings)
                self._runs.append(run)
                running.append(run)
                starts_at = loop.time() + self._after_s
                continue
            if not running:
                return None
            news = [run.sink.news() for run in running]
            await asyncio.wait(news, timeout=left_s if self._waiting else None, return_when=asyncio.FIRST_COMPLETED)

    def _log_loss(self, run: _Run) -> None:
        error, doubt = run.sink.error, run.doubt
        if error is None and doubt is None:
            return  # such as a stream of tool calls
        session = None if self._turn is None else self._turn.owner
        number = getattr(session, "conversation_id", None)
        conversation = "" if number is None else f"conversation {cut(text_of(number))}: "
        if error is not None:
            log.warning("%s%s of first_of failed: %s: %s", conversation, run.name, type(error).__name__, text_of(error))
        elif doubt is not None:
            log.info("%s%s of first_of gave no text to speak: %s", conversation, run.name, doubt[2])

    def _note_winner(self, run: _Run) -> None:
        self.winner = run.place
        if self._turn is not None:
            self._turn.winner = run.place

    def _close_all(self, winner: _Run | None = None) -> None:
        """End all contenders but the winner."""
        for run in self._runs:
            if run is not winner:
                run.stop()
        waiting, self._waiting = self._waiting, []
        for contender in waiting:
            if not _is_function(contender):
                _keep(asyncio.get_running_loop().create_task(_close_unused(contender)))

    def _raise_failure(self, winner: _Run | None) -> None:
        """Raise what ended the winner; without one, what ended the first contender that failed."""
        for run in self._runs if winner is None else (winner,):
            if run.sink.error is not None:
                raise run.sink.error

    def _count_usage(self) -> None:
        """Add the tokens of all contenders to the turn's: all are paid."""
        if self._turn is not None:
            for run in self._runs:
                if run.turn.usage is not None:
                    self._turn.usage = _sum(self._turn.usage, run.turn.usage)

    def __repr__(self) -> str:
        return f"<FirstOf {len(self._runs)} started, {len(self._waiting)} waiting, winner {self.winner}>"


class _Run:
    """One contender under way."""

    def __init__(
        self, contender: Any, place: int, clock: Clock, close_s: float, takeover: bool, options: Mapping[str, Any]
    ) -> None:
        self.place = place
        self.name = "the primary" if place == 0 else "the backup" if place == 1 else f"backup {place}"
        self.turn = Turn(None)
        self.sink = Collector()
        self._close_s = close_s
        self.doubt: tuple[bool, str, str] | None = None
        self._has_begun = False
        self.task = asyncio.get_running_loop().create_task(self._run(contender, clock, takeover, options))
        _keep(self.task)

    async def _run(self, contender: Any, clock: Clock, takeover: bool, options: Mapping[str, Any]) -> None:
        self._has_begun = True
        stream: Stream | None = None
        try:
            if not self.turn.open:
                await _close_unused(contender)
                return
            stream = open_stream(contender() if _is_function(contender) else contender, self._close_s, takeover)
            reading = {name: value for name, value in options.items() if name != "shape"}
            if reading:
                stream.read_by(**reading)
            stream.shape(options.get("shape"))
            await stream.pump(self.sink, self.turn, clock)
            self.doubt = stream.doubt()
            self.sink.end()
        except BaseException as error:
            # Also SystemExit: raised in a task it would end the event loop. The handler gets it.
            self.sink.end(error)
        try:
            if stream is not None and not stream.is_over:
                await stream.aclose(self._close_s)
        except BaseException as error:
            log.warning("closing %s of first_of failed: %s: %s", self.name, type(error).__name__, error)

    def stop(self) -> None:
        """End it: nobody hears it."""
        if not self.task.done() and self.turn.open:
            self.turn.end(SUPERSEDED)
            if self._has_begun:  # a task that is cancelled before its first step takes none
                self.task.cancel()


async def _close_unused(contender: Any) -> None:
    """Close a contender that nobody needs, since its request may have been made."""
    if isinstance(contender, str) or _is_function(contender):
        return
    try:
        await open_stream(contender, CLOSE_S).aclose(CLOSE_S)
    except TypeError:
        log.debug("%s of first_of was not needed, and is nothing to speak", name_of(contender))  # it was closed


def _keep(task: asyncio.Task[None]) -> None:
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _is_function(contender: Any) -> bool:
    """Return whether a contender is called when it starts; an object of a package may be callable, too."""
    if inspect.isroutine(contender) or isinstance(contender, functools.partial):
        return True
    kind = type(contender)
    return callable(contender) and not any(hasattr(kind, name) for name in STREAM_METHODS)


def _sum(one: TokenUsage | None, other: TokenUsage) -> TokenUsage:
    if one is None:
        return other
    return Usage(_added(one.input_tokens, other.input_tokens), _added(one.output_tokens, other.output_tokens))


def _added(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
