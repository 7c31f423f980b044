"""The jobs of a lane: the user code of one turn or one event, called, awaited, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextvars import ContextVar, copy_context
from inspect import CO_COROUTINE, isawaitable
from typing import Any

from se_server.conversation.blocking import block_watch, coroutine_names
from se_server.conversation.findings import event_mistake, log_stray_failure, silence_mistake, turn_mistake
from se_server.conversation.mistakes import Returned
from se_server.conversation.naming import handler_name
from se_server.conversation.notes import Notes, note
from se_server.errors import HandlerMistake, TooManyStrayHandlers
from se_server.forks import copied_loops, end_child
from se_server.protocol.turn import CLOSED, RUNNING, SUPERSEDED, Turn
from se_server.telemetry._clock import Clock
from se_server.telemetry._ring import GONE
from se_server.types import ERROR, INTERRUPTED, USER_TRANSCRIPT, Handler, Stats

current_turn: ContextVar[Turn | None] = ContextVar("current_turn", default=None)
"""The turn that a task speaks for: its handler's, inherited by the tasks that the handler makes."""
_set_current_turn = current_turn.set

current_job: ContextVar[tuple[TurnHost, object] | None] = ContextVar("current_job", default=None)
"""The session, and the event id if there is one, of an event's handler that is not a turn's. Log records have them."""

_HAS_TASK_CONTEXT = sys.version_info >= (3, 11)
"""Whether a task may be given its context, in place of a copy of it."""

Call = tuple[Handler, tuple[Any, ...]]


class TurnHost:
    """The part of a session that its lane uses."""

    def __init__(self) -> None:
        self.conversation_id: str | None = None
        self.notes: Notes | None = None

    def _calls_of(self, event: str, args: tuple[Any, ...]) -> list[Call]:
        """Return what an event calls, with its arguments."""
        raise NotImplementedError

    def _finish_turn(self, turn: Turn, failed: bool) -> None:
        """The handler of an open turn has ended."""
        raise NotImplementedError

    def _speak_failure(self, turn: Turn) -> None:
        """A handler has raised."""
        raise NotImplementedError

    async def _report(self, error: BaseException) -> None:
        """Give an error of user code to the error handlers."""
        raise NotImplementedError

    def _ended(self) -> None:
        """The last handler has ended."""
        raise NotImplementedError


class Pulse:
    """The notes of one loop's lanes for its `BlockWatch`.

    Attributes:
        running: the handlers that have begun and not ended.
        begun: the turns that have begun.
        is_watched: whether the watch is awake.
    """

    def __init__(self) -> None:
        self.running = self.begun = 0
        self.is_watched = False


class JobHost:
    """The part of a lane that its jobs use."""

    def _prepare(
        self, session: TurnHost, loop: asyncio.AbstractEventLoop, stats: Stats, clock: Clock, max_strays: int
    ) -> None:
        self._session = session
        self._loop = loop
        self._stats = stats
        self._clock = clock
        watch = block_watch()
        if watch.loop is None or watch.loop() is not loop:
            watch.attach(loop, Pulse())
        self._pulse: Pulse = watch.pulse  # type: ignore[assignment]  # it is one of these
        self._strays = 0
        self._max_strays = max_strays
        self._context = copy_context()
        # Python 3.10, and a task factory, give each task a copy of the context: it is fetched when the task has ended.
        self._shares_context = _HAS_TASK_CONTEXT and loop.get_task_factory() is None

    def _note_yield(self, turn: Turn) -> None:
        """Count how long the handler of an interrupted turn went on."""
        now = self._clock.now()
        if turn.interrupted_at:
            self._stats.meters.yielded(now - turn.interrupted_at)
        if turn.ring is not None:
            turn.ring.note(GONE, turn.number, 0, now)

    def _cut_short(self, job: Job) -> None:
        """Cancel a handler that has begun after the end, where it waits for the first time."""
        raise NotImplementedError

    def _done(self, job: Job) -> None:
        """A job has ended."""
        raise NotImplementedError

    async def run_calls(self, event: str, calls: list[Call], job: Job | None = None) -> None:
        """Call an event's handlers in order; an exception becomes an `error` event, one of an error handler a log."""
        session = self._session
        for handler, args in calls:
            try:
                awaited = call(handler, args)
                if job is not None:
                    job.handler, job.awaited = handler, awaited
                result = None if awaited is None else await awaited
                if result is not None:
                    mistake = event_mistake(session, event, handler, result)
                    if mistake is not None:
                        await session._report(HandlerMistake(mistake))
                if copied_loops and self._loop in copied_loops:
                    end_child()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if _must_leave(self, job, error):
                    raise
                if event == ERROR:
                    note(session, logging.ERROR, "the error handler %s failed", handler_name(handler), error=error)
                elif job is None:
                    await session._report(error)
                else:
                    await job._report(error)


class Job:
    """The user code of one event, and what is known of it while it runs."""

    def __init__(self, lane: JobHost, event: str, args: tuple[Any, ...], turn: Turn | None = None) -> None:
        self.lane = lane
        self.event = event
        self.args = args
        self.turn = turn
        self.task: asyncio.Task[None] | None = None
        self.handler: Handler | None = None
        self.mistake: str | None = None
        self.awaited: Any = None  # the handler's coroutine: of the task's own, compiled, no stack can be read
        self.held_bytes = 0
        self.started = False
        self.is_cancelled = False
        self.is_stray = False

    async def run_turn(self) -> None:
        """Run the handlers of a turn, and end it."""
        lane, turn = self.lane, self.turn
        assert turn is not None
        self.started = True
        if self.task is None:  # a task that starts eagerly runs before its maker knows it
            self.task = asyncio.current_task()
        _set_current_turn(turn)
        turn.note_began(lane._clock.now())
        session, pulse = lane._session, lane._pulse
        if turn.ring is not None and turn.ring.tracer is not None:
            turn.ring.tracer.enter(turn, session, turn.began_at)
        pulse.running += 1
        pulse.begun += 1
        if not pulse.is_watched:
            block_watch().wake()
        failed = counted = False
        is_last = not turn.open and turn.state is CLOSED
        try:
            if turn.open or is_last:
                if is_last:
                    lane._loop.call_soon(lane._cut_short, self)
                else:
                    turn.state = RUNNING
                lane._stats.cells.turns_started += 1
                counted = True
                if lane._strays >= lane._max_strays:
                    raise TooManyStrayHandlers(
                        f"{lane._strays} cancelled handlers of this conversation still run; the turn was not started"
                    )
                for handler, args in session._calls_of(USER_TRANSCRIPT, self.args):
                    # A handler before it swallowed its cancellation.
                    if not turn.open and (self.is_cancelled or not is_last):
                        break
                    self.handler = handler
                    self.awaited = call(handler, args)
                    if self.awaited is not None:
                        result = await self.awaited
                        if result is not None:
                            is_silent = turn.chunks == turn.fillers and turn.open
                            mistake = turn_mistake(session, handler, result, is_silent)
                            self.mistake = self.mistake or mistake  # the first of a turn counts
                    if copied_loops and lane._loop in copied_loops:
                        end_child()
                if turn.chunks == turn.fillers and turn.open and self.mistake is None:
                    self.mistake = silence_mistake(session, session._calls_of(USER_TRANSCRIPT, self.args))
                if self.mistake is not None:
                    failed = turn.open
                    session._speak_failure(turn)
                    await self._report(HandlerMistake(self.mistake))
        except asyncio.CancelledError as error:
            if turn.open:  # nobody superseded it: the handler awaited something that was cancelled
                failed = True
                session._speak_failure(turn)
                await self._report(error)
        except BaseException as error:
            if _must_leave(lane, self, error):
                raise
            failed = turn.open
            if turn.open:
                session._speak_failure(turn)
            await self._report(error)
        finally:
            if turn.open:
                session._finish_turn(turn, failed)
            elif turn.state is SUPERSEDED:
                lane._note_yield(turn)
            if counted:
                lane._stats.cells.turns_ended += 1
            pulse.running -= 1
            lane._done(self)

    async def run_event(self, calls: list[Call]) -> None:
        """Run the handlers of an event other than a transcript."""
        lane = self.lane
        self.started = True
        if self.task is None:
            self.task = asyncio.current_task()
        lane._pulse.running += 1
        if not lane._pulse.is_watched:
            block_watch().wake()
        turn = self.args[0] if self.event == INTERRUPTED else None
        current_job.set((lane._session, None if turn is None else turn.event_id))
        try:
            await lane.run_calls(self.event, calls, self)
        except asyncio.CancelledError:
            name = handler_name(self.handler) if self.handler is not None else "a handler"
            note(lane._session, logging.WARNING, "%s was cancelled in its %s handler", name, self.event)
        finally:
            lane._pulse.running -= 1
            if not lane._shares_context and not self.is_stray:
                lane._context = copy_context()
            lane._done(self)

    async def _report(self, error: BaseException) -> None:
        if self.is_stray:  # other user code of the session runs by now, or the conversation is over
            log_stray_failure(self.lane._session, self.handler, self.event, error)
        else:
            await self.lane._session._report(error)


def _must_leave(lane: JobHost, job: Job | None, error: BaseException) -> bool:
    """Whether an exception ends more than a handler. `sys.exit()` in one ends neither the process nor others."""
    if copied_loops and lane._loop in copied_loops:
        end_child(error)
    if isinstance(error, GeneratorExit):
        # The coroutine is closed from outside, unless its own task runs: then a handler has raised it.
        task = asyncio.current_task()
        return task is None or (job is not None and task is not job.task)
    # Without a handler of SIGINT in the process, the user has pressed Ctrl-C.
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


_known_code: object = None
"""The last coroutine function's, nearly always that of all conversations. The function itself may hold a session."""


def call(handler: Handler, args: tuple[Any, ...]) -> Any:
    """Call user code; return what must be awaited of it, or None. Plain functions may hold the loop: watched."""
    global _known_code
    # Calling a coroutine function only makes a coroutine. One that is wrapped may not show it: nothing is lost by that.
    code = getattr(handler, "__code__", None)
    if code is not None:
        if code is _known_code:
            return handler(*args)
        if code.co_flags & CO_COROUTINE:
            _known_code = code
            if code not in coroutine_names:
                coroutine_names[code] = handler_name(handler)
            return handler(*args)
    result = block_watch().call(handler, *args)
    if result is None:
        return None
    if not isawaitable(result):
        return Returned(result)
    code = getattr(result, "cr_code", None)
    if code is not None and code not in coroutine_names:
        coroutine_names[code] = handler_name(handler)
    return result
