"""Runs user code: one handler of a session at a time, in the order of the messages.

idle  -- a transcript, an event ------------------------------> busy
busy  -- the handler ended -----------------------------------> the next that waits, else idle
busy  -- its turn is superseded: cancelled; still there 50 ms
         later it is a stray, which nobody waits for ---------> the next that waits
any   -- end(): what waits, a transcript up to its handler's
         first wait, then close or disconnected --------------> ended

Events run in the session's own context (`contextvars`), turns in copies of it: what `on_init` sets is seen by all
handlers after it, and what a turn's handler sets is its own.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import deque
from contextvars import ContextVar, copy_context
from inspect import CO_COROUTINE, isawaitable
from types import FrameType
from typing import Any

from se_server.conversation._batch import batch_of
from se_server.conversation._tasks import start as start_task
from se_server.conversation.awaits import forgotten_await
from se_server.conversation.blocking import block_watch, coroutine_names, where
from se_server.conversation.mistakes import Returned, mistake_in
from se_server.conversation.naming import handler_name
from se_server.conversation.notes import Notes, note
from se_server.conversation.settings import SessionSettings
from se_server.errors import HandlerMistake, TooManyStrayHandlers
from se_server.forks import copied_loops, end_child
from se_server.protocol.turn import CLOSED, RUNNING, Turn
from se_server.types import ERROR, INTERRUPTED, USER_TRANSCRIPT, ConversationMessage, Handler, Stats

current_turn: ContextVar[Turn | None] = ContextVar("current_turn", default=None)
"""The turn that a task speaks for: its handler's, inherited by the tasks that the handler makes."""
_set_current_turn = current_turn.set

current_job: ContextVar[tuple[TurnHost, object] | None] = ContextVar("current_job", default=None)
"""The session, and the event id if there is one, of an event's handler that is not a turn's. Log records have them."""

Call = tuple[Handler, tuple[Any, ...]]

NOTHING_ANSWERS = (
    "nothing answers the user: pass on_transcript=, or register a handler by session.on('user_transcript', ...)"
)

TASK_NAME = "se-server turn"
"""The same for all: to number them costs as much as the rest of making a task."""


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


class Job:
    """The user code of one event, and what is known of it while it runs."""

    def __init__(self, event: str, args: tuple[Any, ...], turn: Turn | None = None) -> None:
        self.event = event
        self.args = args
        self.turn = turn
        self.task: asyncio.Task[None] | None = None
        self.handler: Handler | None = None
        self.mistake: str | None = None
        self.awaited: Any = None  # the handler's coroutine: of the task's own, compiled, no stack can be read
        self.started = False
        self.is_cancelled = False
        self.is_stray = False


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


class Lane:
    """Runs the handlers of one session, one job after another."""

    def __init__(
        self, session: TurnHost, loop: asyncio.AbstractEventLoop, settings: SessionSettings, stats: Stats
    ) -> None:
        self._session = session
        self._loop = loop
        self._batch = batch_of(loop)
        self._settings = settings
        self._stats = stats
        self._job: Job | None = None
        self._waiting: deque[Job] | None = None
        watch = block_watch()
        if watch.loop is None or watch.loop() is not loop:
            watch.attach(loop, Pulse())
        self._pulse: Pulse = watch.pulse  # type: ignore[assignment]  # it is one of these
        self._strays = 0
        self._max_strays = settings.max_stray_handlers
        self._timer: asyncio.TimerHandle | None = None
        self._context = copy_context()
        # Python 3.10, and a task factory, give each task a copy of the context: it is fetched when the task has ended.
        self._shares_context = sys.version_info >= (3, 11) and loop.get_task_factory() is None
        self._debugs = loop.get_debug()  # then tasks have to note where they were made
        self._ending = False
        self._ended: asyncio.Future[None] | None = None
        self.is_over = False

    # --- what is to run ---

    def start_turn(self, turn: Turn, transcript: list[ConversationMessage], superseded: Turn | None) -> None:
        """Run the transcript's handlers as soon as the superseded turn's have ended, or had their time."""
        job = Job(USER_TRANSCRIPT, (transcript,), turn)
        running = self._job
        if running is None:
            self._start_now(job)
            return
        if running.turn is not None and not running.turn.open:
            self._cancel(running)
        if superseded is not None:
            has_begun = running.turn is superseded and running.started
            if running.turn is not superseded and self._waiting is not None:  # at most one transcript waits
                self._waiting = deque([job for job in self._waiting if job.turn is not superseded])
            if has_begun or superseded.chunks:  # a first word may go out before the handler starts
                self._wait(Job(INTERRUPTED, (superseded,)))
        self._wait(job)

    def emit(self, event: str, *args: Any) -> None:
        """Run the handlers of an event in its turn; without handlers only the order is kept."""
        if self._ending:
            return
        job = Job(event, args)
        if self._job is None:
            self._start(job)
        elif self._waiting is None or len(self._waiting) < self._settings.max_pending_events:
            self._wait(job)
        else:
            note(self._session, logging.WARNING, "too many events wait for a handler; %s dropped", event)

    def abandon(self, turn: Turn) -> None:
        """Cancel the handler of a turn that has ended; one that waits finds it closed."""
        running = self._job
        if running is not None and running.turn is turn:
            self._cancel(running)

    def end(self, event: str) -> None:
        """Let what runs and what waits come to its end, then run `event` as the last.

        A transcript whose handler has not begun is heard up to the handler's first wait, unless it was superseded.
        """
        self._ending = True
        if self._waiting is not None:
            self._waiting = deque([job for job in self._waiting if _is_due(job)])
        last = Job(event, ())
        running = self._job
        if running is None:
            self._start(last)
            return
        self._wait(last)
        if running.turn is None:
            if not running.is_cancelled:
                self._limit(running)
        elif running.started or not _is_due(running):
            self._cancel(running)

    def use_context(self) -> None:
        """Run the handlers from now on in a copy of the caller's context."""
        self._context = copy_context()

    async def wait_ended(self) -> None:
        """Wait until the last handler has ended."""
        if not self.is_over:
            if self._ended is None:
                self._ended = self._loop.create_future()
            await asyncio.shield(self._ended)

    def _wait(self, job: Job) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(job)

    # --- running it ---

    def _start_now(self, job: Job) -> None:
        """Start a turn on an idle lane, with all others that start in the loop's next step."""
        if self._debugs or self._loop.get_task_factory() is not None:
            self._start(job)
            return
        self._job = job
        assert job.turn is not None
        start_task(self._run_turn(job, job.turn), self._loop, self._batch, TASK_NAME, job, self._context)

    def _start(self, job: Job) -> None:
        self._job = job
        if job.turn is not None:
            job.task = self._context.copy().run(self._loop.create_task, self._run_turn(job, job.turn))
            return
        calls = self._session._calls_of(job.event, job.args)
        if calls:
            if sys.version_info >= (3, 11) and self._shares_context:
                job.task = self._loop.create_task(self._run_event(job, calls), context=self._context)
            else:
                job.task = self._context.copy().run(self._loop.create_task, self._run_event(job, calls))
            if self._job is job:
                if self._ending:
                    self._limit(job)
                elif job.event == INTERRUPTED:
                    self._set_timer(self._settings.interrupt_timeout_s, self._cancel, job)
        else:
            self._next()

    def _next(self) -> None:
        """The running job is over, or given up: go on with the one that waits longest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._job = None
        while self._waiting:
            job = self._waiting.popleft()
            if _is_due(job):
                self._start(job)
                return
        self._waiting = None
        if self._ending and not self.is_over:
            self.is_over = True
            if self._ended is not None:
                self._ended.set_result(None)
            self._session._ended()
            if not self._strays:
                self._session = None  # type: ignore[assignment]  # spares the garbage collector a cycle a call

    async def _run_turn(self, started: Job, started_turn: Turn) -> None:
        # Cython knows the types of what its functions give, not of a coroutine's arguments.
        job, turn = _job(started), _turn(started_turn)
        job.started = True
        if job.task is None:  # a task that starts eagerly runs before its maker knows it
            job.task = asyncio.current_task()
        _set_current_turn(turn)
        session, pulse = self._session, self._pulse
        pulse.running += 1
        pulse.begun += 1
        if not pulse.is_watched:
            block_watch().wake()
        failed = counted = False
        is_last = not turn.open and turn.state is CLOSED
        try:
            if turn.open or is_last:
                if is_last:
                    self._loop.call_soon(self._cut_short, job)
                else:
                    turn.state = RUNNING
                self._stats.turns_started += 1
                counted = True
                if self._strays >= self._max_strays:
                    raise TooManyStrayHandlers(
                        f"{self._strays} cancelled handlers of this conversation still run; the turn was not started"
                    )
                for handler, args in session._calls_of(USER_TRANSCRIPT, job.args):
                    # A handler before it swallowed its cancellation.
                    if not turn.open and (job.is_cancelled or not is_last):
                        break
                    job.handler = handler
                    job.awaited = call(handler, args)
                    if job.awaited is not None:
                        result = await job.awaited
                        if result is not None:
                            self._look_at(job, result, turn.chunks == turn.fillers and turn.open)
                    if copied_loops and self._loop in copied_loops:
                        end_child()
                if turn.chunks == turn.fillers and turn.open:
                    self._look_for_silence(job)
                if job.mistake is not None:
                    failed = turn.open
                    session._speak_failure(turn)
                    await self._report(job, HandlerMistake(job.mistake))
        except asyncio.CancelledError as error:
            if turn.open:  # nobody superseded it: the handler awaited something that was cancelled
                failed = True
                session._speak_failure(turn)
                await self._report(job, error)
        except BaseException as error:
            if self._must_leave(job, error):
                raise
            failed = turn.open
            if turn.open:
                session._speak_failure(turn)
            await self._report(job, error)
        finally:
            if turn.open:
                session._finish_turn(turn, failed)
            if counted:
                self._stats.turns_ended += 1
            pulse.running -= 1
            self._done(job)

    async def _run_event(self, job: Job, calls: list[Call]) -> None:
        job.started = True
        if job.task is None:
            job.task = asyncio.current_task()
        self._pulse.running += 1
        if not self._pulse.is_watched:
            block_watch().wake()
        turn = job.args[0] if job.event == INTERRUPTED else None
        current_job.set((self._session, None if turn is None else turn.event_id))
        try:
            await self.run_calls(job.event, calls, job)
        except asyncio.CancelledError:
            name = handler_name(job.handler) if job.handler is not None else "a handler"
            note(self._session, logging.WARNING, "%s was cancelled in its %s handler", name, job.event)
        finally:
            self._pulse.running -= 1
            if not self._shares_context and not job.is_stray:
                self._context = copy_context()
            self._done(job)

    async def run_calls(self, event: str, calls: list[Call], job: Job | None = None) -> None:
        """Call an event's handlers in order; an exception becomes an `error` event, one of an error handler a log."""
        for handler, args in calls:
            try:
                awaited = call(handler, args)
                if job is not None:
                    job.handler, job.awaited = handler, awaited
                result = None if awaited is None else await awaited
                if result is not None:
                    await self._look_at_event(event, handler, result)
                if copied_loops and self._loop in copied_loops:
                    end_child()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if self._must_leave(job, error):
                    raise
                if event == ERROR:
                    name = handler_name(handler)
                    note(self._session, logging.ERROR, "the error handler %s failed", name, error=error)
                elif job is None:
                    await self._session._report(error)
                else:
                    await self._report(job, error)

    def _must_leave(self, job: Job | None, error: BaseException) -> bool:
        """Whether an exception ends more than a handler. `sys.exit()` in one ends neither the process nor others."""
        if copied_loops and self._loop in copied_loops:
            end_child(error)
        if isinstance(error, GeneratorExit):
            # The coroutine is closed from outside, unless its own task runs: then a handler has raised it.
            task = asyncio.current_task()
            return task is None or (job is not None and task is not job.task)
        # Without a handler of SIGINT in the process, the user has pressed Ctrl-C.
        return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def _look_at(self, job: Job, result: object, is_silent: bool) -> None:
        """Note the mistake that the result of a turn's handler shows, if any; the first of a turn counts."""
        handler = job.handler
        mistake = None if handler is None else mistake_in(handler, job.event, result, is_silent)
        if mistake is not None:
            self._log_mistake(handler_name(handler), mistake)
            if job.mistake is None:
                job.mistake = mistake

    def _look_for_silence(self, job: Job) -> None:
        """Note why a turn's handlers have sent nothing, where their source shows it."""
        calls = self._session._calls_of(USER_TRANSCRIPT, job.args) if job.mistake is None else []
        for handler, args in calls:
            job.mistake = forgotten_await(handler, args)
            if job.mistake is not None:
                self._log_mistake(handler_name(handler), job.mistake)
                return
        if not calls and job.mistake is None:
            self._log_mistake("", NOTHING_ANSWERS)

    async def _look_at_event(self, event: str, handler: Handler, result: object) -> None:
        mistake = mistake_in(handler, event, result)
        if mistake is not None:
            self._log_mistake(handler_name(handler), mistake)
            if event != ERROR:
                await self._session._report(HandlerMistake(mistake))

    def _log_mistake(self, name: str, mistake: str) -> None:
        """Log a mistake, once for each name of a handler."""
        if name not in _mistaken:
            _mistaken.add(name)
            note(self._session, logging.ERROR, "%s", mistake, kind="mistake")

    async def _report(self, job: Job, error: BaseException) -> None:
        if job.is_stray:  # other user code of the session runs by now, or the conversation is over
            note(self._session, logging.ERROR, "%s failed after it was cancelled", _name(job), error=error)
        else:
            await self._session._report(error)

    def _done(self, job: Job) -> None:
        if job.is_stray:
            self._strays -= 1
        else:
            self._next()

    # --- ending it early ---

    def _cancel(self, job: Job) -> None:
        """Cancel a job and give it its time to clean up."""
        if job.is_cancelled:
            return
        job.is_cancelled = True
        # A task cancelled before its first step would never run its `finally`; unstarted, it finds its turn closed.
        if job.started and job.task is not None:
            job.task.cancel()
        self._set_timer(self._settings.handover_s, self._give_up, job)

    def _cut_short(self, job: Job) -> None:
        """Cancel a handler that has begun after the end, where it waits for the first time."""
        if self._job is job:
            self._cancel(job)

    def _limit(self, job: Job) -> None:
        self._set_timer(self._settings.end_timeout_s, self._cancel, job)

    def _set_timer(self, delay_s: float, action: Any, job: Job) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, action, job)

    def _give_up(self, job: Job) -> None:
        """Wait no longer for a cancelled job."""
        self._timer = None
        job.is_stray = True
        self._strays += 1
        self._stats.stray_handlers += 1
        self._loop.call_later(self._settings.stray_report_s, self._report_stray, job)
        self._next()

    def _report_stray(self, job: Job) -> None:
        if job.task is not None and not job.task.done():
            stack = [where(frame) for frame in frames_of(job.awaited)]
            note(
                self._session,
                logging.WARNING,
                "%s still runs %.1f s after it was cancelled; it stands at %s",
                _name(job),
                self._settings.handover_s + self._settings.stray_report_s,
                ", called from ".join(reversed(stack)) or "an unknown place",
            )


def _job(job: Job) -> Job:
    return job


def _turn(turn: Turn) -> Turn:
    return turn


def _is_due(job: Job) -> bool:
    """Whether a job that has not begun still has to: a transcript does unless it was superseded or timed out."""
    return job.turn is None or job.turn.open or job.turn.state is CLOSED


def _name(job: Job) -> str:
    return f"handler {handler_name(job.handler)}" if job.handler is not None else f"a handler of {job.event}"


_mistaken: set[str] = set()
"""The names of handlers whose mistakes were logged."""

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


def frames_of(coroutine: Any) -> list[FrameType]:
    """Return the frames of a suspended coroutine, outermost first."""
    frames: list[FrameType] = []
    while coroutine is not None:
        frame = _first_of(coroutine, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append(frame)
        coroutine = _first_of(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _first_of(target: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(target, name, None)) is not None), None)
