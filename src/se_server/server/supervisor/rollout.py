"""Which generations there are, and how the places of their workers are filled.

One generation serves. A reload makes a candidate, whose workers start beside the serving ones: first one, and then no
more at once than have proved to start. When all are ready, the candidate serves, and only then do the workers of the
old generation drain, in the background. A candidate that cannot start goes; the first one has none before it, and then
there is nothing to fall back to. A second reload drops the candidate of the first.

A worker that dies is replaced: at once, or after a growing pause if workers keep dying young. Only workers that cannot
start, five in a row, end the whole: no crash loop burns the machine, and no crash in a conversation ends the server.
"""

from __future__ import annotations

import logging
import time

from se_server.server.config.readers import MAX_WORKERS
from se_server.server.shared.control import Failed
from se_server.server.shared.scoreboard import State
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.plan import Announcer, Plan
from se_server.server.supervisor.pool import NO_HURRY_S, Crew
from se_server.server.supervisor.recycle import Recycler

logger = logging.getLogger("se_server.server.rollout")

FORK_RETRY_S = 1.0


class Rollout:
    """Fills places, and moves from one generation to the next.

    Args:
        crew: the workers that are alive.
        announcer: told when the first generation is ready or cannot start, and of reloads.
        plan: the first generation's.

    Attributes:
        plan: of the generation that serves, or did last.
        serving: the generation that serves; None before the first is ready, and after `end`.
        failed: whether there is nothing left that could serve.
        waits_for_repair: whether nothing serves or starts, and a reload is waited for.
    """

    def __init__(self, crew: Crew, announcer: Announcer, plan: Plan) -> None:
        self.plan = plan
        self._crew = crew
        self._announcer = announcer
        self._made = 0
        self._recycler = Recycler()
        self.serving: Generation | None = None
        self._candidate: Generation | None = None
        self.failed = False
        self.waits_for_repair = False

    # --- generations ---

    def begin(self, plan: Plan) -> None:
        """Make a candidate from a plan, instead of the one that may be under way."""
        newest = self._candidate or self.serving
        # A number that was set by signals outlives reloads, unless the configuration has changed its mind.
        count = plan.workers if newest is None or plan.workers != newest.plan.workers else newest.count
        self._drop_candidate()
        self.waits_for_repair = False
        self._made += 1
        self._candidate = Generation(self._made, plan, time.monotonic(), count)
        if self.serving is not None:
            self._announcer.reloading()
            logger.info("reload: %d workers of generation %d start; the old ones serve until then", count, self._made)

    @property
    def state(self) -> State:
        """Where the whole is in its life."""
        if self.serving is not None:
            return State.READY
        return State.STARTING if self._candidate is not None or self.waits_for_repair else State.DRAINING

    def end(self) -> None:
        """Start no more workers. Those that are alive are the caller's to end."""
        self.serving = self._candidate = None
        self.waits_for_repair = False

    def _drop_candidate(self) -> None:
        dropped, self._candidate = self._candidate, None
        if dropped is not None:
            for record in self._crew.of(dropped, State.STARTING, State.READY):
                self._crew.drain(record, dropped.plan.reload_drain_timeout_s)

    def _growing(self) -> list[Generation]:
        """The generations whose places are to be filled."""
        return [generation for generation in (self.serving, self._candidate) if generation is not None]

    def scale(self, change: int) -> None:
        """Add or remove workers; removed ones drain."""
        for generation in self._growing():
            count = max(1, min(MAX_WORKERS, generation.count + change))
            for place in range(generation.count, count):
                generation.vacant[place] = time.monotonic()
            for place in range(count, generation.count):
                generation.vacant.pop(place, None)
            for record in self._crew.of(generation, State.STARTING, State.READY):
                if record.place >= count:
                    self._crew.drain(record, generation.plan.reload_drain_timeout_s)
            generation.count = count
            logger.info("generation %d has %d workers from now on", generation.number, count)
        self._promote_candidate()

    def replace(self, record: WorkerRecord) -> None:
        """Let a worker drain now, and another one take its place."""
        self._crew.drain(record, record.generation.plan.reload_drain_timeout_s)
        self.refill(record)

    # --- what happens to workers ---

    def became_ready(self, record: WorkerRecord) -> None:
        """Take note that a worker is ready."""
        generation = record.generation
        generation.failures = 0
        record.wear.became_ready(generation.plan.recycling)
        for other in self._crew.of(generation, State.READY):
            if other.place == record.place and other is not record:  # it is recycled
                self._crew.drain(other, NO_HURRY_S)
        self._promote_candidate()

    def _promote_candidate(self) -> None:
        candidate, old = self._candidate, self.serving
        if candidate is None or len(self._crew.of(candidate, State.READY)) < candidate.count:
            return
        self.serving, self._candidate, self.plan = candidate, None, candidate.plan
        if candidate.told.notice:
            logger.warning("%s", candidate.told.notice)
        if old is None:
            self._announcer.ready(candidate.count, candidate.told.path)
            return
        leaving = self._crew.of(old, State.STARTING, State.READY)
        for record in leaving:
            self._crew.drain(record, candidate.plan.reload_drain_timeout_s)
        logger.info("reload: generation %d serves, %d old workers drain", candidate.number, len(leaving))
        self._announcer.reloaded()

    def died(self, record: WorkerRecord) -> None:
        """Replace a worker that was ready and has died."""
        self.refill(record, record.generation.pause_after_death(time.monotonic() - record.started_at))

    def could_not_start(self, record: WorkerRecord, how: str) -> None:
        """Try again, fall back to what serves, or fail."""
        generation = record.generation
        failure = record.failure or Failed(f"a worker {how} before it was ready")
        if generation not in self._growing():
            return
        if generation is self._candidate and self.serving is not None:
            _log_failure("the reload has failed, the old workers serve on", failure)
            self._drop_candidate()
            self._announcer.reloaded()
            return
        if any(other.place == record.place for other in self._crew.of(generation, State.READY)):
            _log_failure(f"worker {record.place} cannot be recycled", failure)
            self._recycler.give_up(time.monotonic())
            return
        pause_s = generation.pause_after_failure()
        if generation is self.serving and pause_s is not None:
            _log_failure(f"worker {record.place} cannot start, next try in {pause_s:g} s", failure)
            self.refill(record, pause_s)
            return
        if generation.plan.waits_for_repair and self.serving is None:
            self._drop_candidate()
            self.waits_for_repair = True
            self._announcer.failed(failure.reason, failure.details)
            logger.info("nothing serves: waiting for a change")
            return
        self.failed = True
        self.end()  # a sister may have failed at the same moment, and once is enough
        self._announcer.failed(failure.reason, failure.details)

    def refill(self, record: WorkerRecord, pause_s: float = 0.0) -> None:
        """Give the place of a worker to another one, unless somebody has it already or nobody shall."""
        generation = record.generation
        holders = self._crew.of(generation, State.STARTING, State.READY)
        if (
            generation in self._growing()
            and record.place < generation.count
            and not any(other.place == record.place for other in holders if other is not record)
        ):
            generation.vacant.setdefault(record.place, time.monotonic() + pause_s)

    # --- what is due ---

    def recycle(self, now: float) -> None:
        """Find a worker that is due to be replaced."""
        serving = self.serving
        if serving is None or self._candidate is not None:
            return
        ready = self._crew.of(serving, State.READY)
        alive = [record.wear for record in self._crew]
        due = self._recycler.pick(alive, [record.wear for record in ready], serving.plan.recycling, now)
        for record in ready:
            if record.wear is due:
                serving.vacant.setdefault(record.place, now)

    def next_due(self) -> list[float]:
        """Return when the places that may be filled are due."""
        return [
            due for generation in self._growing() if self._may_fork(generation) for due in generation.vacant.values()
        ]

    @property
    def has_vacancies(self) -> bool:
        """Whether a worker is still to be started."""
        return any(generation.vacant for generation in self._growing())

    def fill_places(self) -> None:
        """Fork the workers that are due."""
        for generation in self._growing():
            for place in generation.due(time.monotonic()):
                if not self._may_fork(generation):
                    break
                try:
                    self._crew.fork(generation, place)
                except OSError as error:  # out of processes, memory or descriptors: the others can do without
                    logger.error("cannot fork a worker, next try in %g s: %s", FORK_RETRY_S, error)
                    generation.vacant[place] = time.monotonic() + FORK_RETRY_S
                    return
                del generation.vacant[place]

    def _may_fork(self, generation: Generation) -> bool:
        if generation is self.serving or self.serving is None:
            return True
        starting, ready = (len(self._crew.of(generation, state)) for state in (State.STARTING, State.READY))
        return starting < max(1, ready)


def _log_failure(text: str, failure: Failed) -> None:
    logger.error("%s: %s", text, failure.reason)
    if failure.details:
        logger.error("%s", failure.details)
