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
import sys
from collections import deque
from contextvars import copy_context
from typing import Any

from se_server.conversation._batch import batch_of
from se_server.conversation._tasks import start as start_task
from se_server.conversation.findings import held_bytes, log_stray
from se_server.conversation.jobs import Job, JobHost, TurnHost
from se_server.conversation.notes import note
from se_server.conversation.settings import SessionSettings
from se_server.protocol.turn import CLOSED, Turn
from se_server.telemetry._clock import clock_of
from se_server.types import INTERRUPTED, USER_TRANSCRIPT, ConversationMessage, Stats

TASK_NAME = "se-server turn"
"""The same for all: to number them costs as much as the rest of making a task."""


class Lane(JobHost):
    """Runs the handlers of one session, one job after another."""

    def __init__(
        self, session: TurnHost, loop: asyncio.AbstractEventLoop, settings: SessionSettings, stats: Stats
    ) -> None:
        self._prepare(session, loop, stats, clock_of(settings.clock), settings.max_stray_handlers)
        self._batch = batch_of(loop)
        self._settings = settings
        self._job: Job | None = None
        self._waiting: deque[Job] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._debugs = loop.get_debug()  # then tasks have to note where they were made
        self._ending = False
        self._ended: asyncio.Future[None] | None = None
        self.is_over = False

    # --- what is to run ---

    def start_turn(self, turn: Turn, transcript: list[ConversationMessage], superseded: Turn | None) -> None:
        """Run the transcript's handlers as soon as the superseded turn's have ended, or had their time."""
        job = Job(self, USER_TRANSCRIPT, (transcript,), turn)
        running = self._job
        if running is None:
            self._start_now(job)
            return
        if superseded is not None:
            self.supersede(superseded)
        elif running.turn is not None and not running.turn.open:
            self._cancel(running)
        self._wait(job)

    def supersede(self, superseded: Turn) -> None:
        """Cancel the handler of a turn that a newer transcript has ended, or leave it out if it waits."""
        running = self._job
        if running is not None:
            if running.turn is not None and not running.turn.open:
                self._cancel(running)
            has_begun = running.turn is superseded and running.started
            if running.turn is not superseded and self._waiting is not None:  # at most one transcript waits
                self._waiting = deque([job for job in self._waiting if job.turn is not superseded])
            if has_begun or superseded.chunks:  # a first word may go out before the handler starts
                self._wait_if_room(Job(self, INTERRUPTED, (superseded,)))

    def emit(self, event: str, *args: Any) -> None:
        """Run the handlers of an event in its turn; without handlers only the order is kept."""
        if self._ending:
            return
        job = Job(self, event, args)
        if self._job is None:
            self._start(job)
        else:
            self._wait_if_room(job)

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
        last = Job(self, event, ())
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

    def _wait_if_room(self, job: Job) -> None:
        """Have an event wait, unless too many do, or what they hold takes too much memory."""
        settings = self._settings
        job.held_bytes = held_bytes(job.args)
        others = [] if self._waiting is None else [waiting.held_bytes for waiting in self._waiting]
        if (
            len(others) < settings.max_pending_events
            and sum(others) + job.held_bytes <= settings.max_message_bytes // 4
        ):
            self._wait(job)
        else:
            note(self._session, logging.WARNING, "too many events wait for a handler; %s dropped", job.event)

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
        start_task(job.run_turn(), self._loop, self._batch, TASK_NAME, job, self._context)

    def _start(self, job: Job) -> None:
        self._job = job
        if job.turn is not None:
            job.task = self._context.copy().run(self._loop.create_task, job.run_turn())
            return
        calls = self._session._calls_of(job.event, job.args)
        if calls:
            if sys.version_info >= (3, 11) and self._shares_context:
                job.task = self._loop.create_task(job.run_event(calls), context=self._context)
            else:
                job.task = self._context.copy().run(self._loop.create_task, job.run_event(calls))
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

    def _done(self, job: Job) -> None:
        if job.is_stray:
            self._strays -= 1
            self._stats.meters.stray_ended()
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
        self._stats.cells.stray_handlers += 1
        self._loop.call_later(self._settings.stray_report_s, self._report_stray, job)
        self._next()

    def _report_stray(self, job: Job) -> None:
        if job.task is not None and not job.task.done():
            after_s = self._settings.handover_s + self._settings.stray_report_s
            log_stray(self._session, job.handler, job.event, job.awaited, after_s)


def _is_due(job: Job) -> bool:
    """Whether a job that has not begun still has to: a transcript does unless it was superseded or timed out."""
    return job.turn is None or job.turn.open or job.turn.state is CLOSED
