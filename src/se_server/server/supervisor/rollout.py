"""The rollout: moves from one generation of workers to the next, and fills the places of both.

One generation serves. A reload makes a candidate, whose workers start beside the serving ones: one at first, then at
most as many at once as are ready. When all are ready, the candidate serves, and only then do the workers of the old
generation drain, in the background. A candidate that cannot start is dropped; if it is the first generation, the server
ends. A second reload drops the candidate of the first.

A worker that dies is replaced at once, or after a growing pause if workers keep dying young. Only consecutive workers
that cannot start (`MAX_BOOT_FAILURES`) end the server: a crash loop does not use up the machine, and a crash in a
conversation does not end the server.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from se_server.server.shared.control_messages import Failed
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK
from se_server.server.shared.scoreboard import State
from se_server.server.shared.seats import MAX_WORKERS
from se_server.server.supervisor.announcer import Announcer
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.pool import HANGING, NO_HURRY_S, Pool
from se_server.server.supervisor.recycle import Recycler
from se_server.server.worker.spec import WorkerSpec
from se_server.spelling import counted

logger = logging.getLogger("se_server.server.rollout")

FORK_RETRY_S = 1.0


class Rollout:
    """Fills places, and moves from one generation to the next.

    Args:
        pool: the workers that are alive.
        announcer: reports that the first generation is ready or cannot start, and reloads.
        spec: describes the workers of the first generation.

    Attributes:
        spec: that of the generation that serves, or that served last.
        serving: the generation that serves; None before the first is ready, and after `end`.
        failed: whether the server has to end because its workers cannot start.
        exit_code: the exit code then.
        waits_for_repair: whether no worker serves or starts, and the server waits for a reload.
    """

    def __init__(self, pool: Pool, announcer: Announcer, spec: WorkerSpec) -> None:
        self.spec = spec
        self._pool = pool
        self._announcer = announcer
        self._made = 0
        self._recycler = Recycler()
        self.serving: Generation | None = None
        self._candidate: Generation | None = None
        self.failed = False
        self.exit_code = EXIT_BOOT
        self.waits_for_repair = False

    # --- generations ---

    def begin(self, spec: WorkerSpec) -> None:
        """Make a candidate generation; it replaces the candidate that may be starting."""
        newest = self._candidate or self.serving
        # A number set with se-ctl or signals survives a reload, unless the option --workers has changed.
        workers = spec.lifecycle.workers
        count = workers if newest is None or workers != newest.lifecycle.workers else newest.count
        self._drop_candidate()
        self.waits_for_repair = False
        self._made += 1
        self._candidate = Generation(self._made, spec, time.monotonic(), count)
        self._preload(self._candidate)
        if self.serving is not None:
            self._announcer.reloading()
            what = f"{counted(count, 'worker')} of generation {self._made} {'starts' if count == 1 else 'start'}"
            logger.info("reload: %s; the old ones serve until then", what)

    def _preload(self, generation: Generation) -> None:
        # The first worker of a program starts before the sockets are open, without a zygote.
        if generation.spec.config.preload.is_wanted and generation.spec.sockets_from is None:
            generation.zygote = self._pool.zygotes.make(generation.number, generation.spec)

    def keep_zygotes(self) -> None:
        """Start the zygotes that are due, end those that are no longer needed, and take their messages."""
        self._pool.zygotes.keep([generation.zygote for generation in self._growing()])
        for zygote in self._pool.zygotes:
            zygote.run_due()
            zygote.receive()
        for generation in self._growing():
            if generation.zygote is not None and generation.zygote.failure is not None:
                self._cannot_begin(generation, generation.zygote.failure)

    @property
    def state(self) -> State:
        """The state of the whole server."""
        if self.serving is not None:
            return State.READY
        return State.STARTING if self._candidate is not None or self.waits_for_repair else State.DRAINING

    def end(self) -> None:
        """Start no more workers. The caller ends those that are alive."""
        self.serving = self._candidate = None
        self.waits_for_repair = False

    def _drop_candidate(self) -> None:
        dropped, self._candidate = self._candidate, None
        if dropped is not None:
            for record in self._pool.of(dropped, State.STARTING, State.READY):
                self._pool.drain(record, dropped.lifecycle.reload_drain_timeout_s)

    def _growing(self) -> list[Generation]:
        """Return the generations whose vacant places are filled."""
        return [generation for generation in (self.serving, self._candidate) if generation is not None]

    def scale(self, change: int) -> None:
        """Add or remove workers; removed ones drain."""
        for generation in self._growing():
            count = max(1, min(MAX_WORKERS, generation.count + change))
            for place in range(generation.count, count):
                generation.vacant[place] = time.monotonic()
            for place in range(count, generation.count):
                generation.vacant.pop(place, None)
            for record in self._pool.of(generation, State.STARTING, State.READY):
                if record.place >= count:
                    self._pool.drain(record, generation.lifecycle.reload_drain_timeout_s)
            generation.count = count
            logger.info("generation %d has %s from now on", generation.number, counted(count, "worker"))
        self._promote_candidate()

    def replace(self, record: WorkerRecord) -> None:
        """Order a worker to drain, and start another one in its place."""
        self._pool.scoreboard.meters.restarted("operator")
        self._pool.drain(record, record.generation.lifecycle.reload_drain_timeout_s)
        self.refill(record)

    # --- events of workers ---

    def became_ready(self, record: WorkerRecord) -> None:
        """Handle that a worker is ready."""
        generation = record.generation
        generation.failures = 0
        record.wear.became_ready(generation.recycle_limits)
        for other in self._pool.of(generation, State.READY):
            if other.place == record.place and other is not record:  # the worker that is recycled
                self._pool.scoreboard.meters.restarted("recycle")
                self._pool.drain(other, NO_HURRY_S)
        self._promote_candidate()

    def _promote_candidate(self) -> None:
        candidate, old = self._candidate, self.serving
        if candidate is None or len(self._pool.of(candidate, State.READY)) < candidate.count:
            return
        self.serving, self._candidate, self.spec = candidate, None, candidate.spec
        self._pool.scoreboard.capacity = self.spec.config.carried()
        if candidate.ready_message.notice:
            logger.warning("%s", candidate.ready_message.notice)
        if old is None:
            message = candidate.ready_message
            self._announcer.ready(candidate.count, message.path, [str(each) for each in message.addresses])
            return
        leaving = self._pool.of(old, State.STARTING, State.READY)
        timeout_s = candidate.lifecycle.reload_drain_timeout_s
        for record in leaving:
            self._pool.drain(record, timeout_s)
        drains = f"{counted(len(leaving), 'old worker')} {'drains' if len(leaving) == 1 else 'drain'}"
        sessions = sum(record.slot.sessions for record in leaving)
        stays = "stays" if sessions == 1 else "stay"
        stay = f"; {counted(sessions, 'conversation')} {stays} on the old code, for at most {timeout_s:g} s"
        logger.info("reload: generation %d serves, %s%s", candidate.number, drains, stay if sessions else "")
        self._announcer.reloaded()

    def died(self, record: WorkerRecord) -> None:
        """Replace a worker that was ready and has died."""
        self._pool.scoreboard.meters.restarted("hang" if record.killed_for == HANGING else "crash")
        self.refill(record, record.generation.pause_after_death(time.monotonic() - record.started_at))

    def could_not_start(self, record: WorkerRecord, how: str) -> None:
        """Handle that a worker ended before it was ready: try again, keep the old generation, or fail.

        Args:
            how: the way in which it ended, for the log.
        """
        generation = record.generation
        failure = record.failure or Failed(f"a worker {how} before it was ready")
        if generation not in self._growing():
            return
        if generation is self._candidate and self.serving is not None:
            self._cannot_begin(generation, failure)
            return
        if any(other.place == record.place for other in self._pool.of(generation, State.READY)):
            _log_failure(f"worker {record.place} cannot be recycled", failure)
            self._recycler.give_up(time.monotonic())
            return
        pause_s = generation.pause_after_failure()
        if generation is self.serving and pause_s is not None:
            _log_failure(f"worker {record.place} cannot start, next try in {pause_s:g} s", failure)
            self.refill(record, pause_s)
            return
        self._cannot_begin(generation, failure)

    def _cannot_begin(self, generation: Generation, failure: Failed) -> None:
        """Keep the old generation, wait for a repair, or fail."""
        if generation is self._candidate and self.serving is not None:
            _log_failure("the reload has failed, the old workers serve on", failure)
            self._drop_candidate()
            self._announcer.reloaded()
            return
        if generation.spec.config.program.reload and self.serving is None:
            self._drop_candidate()
            self.waits_for_repair = True
            self._announcer.failed(failure.reason, failure.details)
            logger.info("nothing serves: waiting for a change")
            return
        if failure.code == EXIT_OK and self._pool.of(generation, State.READY):
            failure = replace(failure, code=EXIT_BOOT)  # the program has ended well in this worker alone
        self.fail(failure)

    def fail(self, failure: Failed) -> None:
        """End the server, which cannot start."""
        self.failed = True
        self.exit_code = failure.code
        self.end()  # the failure of another worker is not reported again then
        if failure.code != EXIT_OK:  # a program that ends by sys.exit(0), as after --help, has said all
            self._announcer.failed(failure.reason, failure.details)

    def take_sockets(self, spec: WorkerSpec) -> None:
        """Start the other workers of the first generation: the listen sockets are open now."""
        self.spec = spec
        if self._candidate is not None:
            self._candidate.spec = spec
            self._preload(self._candidate)

    def refill(self, record: WorkerRecord, pause_s: float = 0.0) -> None:
        """Start another worker in the place of this one, if the place still exists and is not taken."""
        generation = record.generation
        holders = self._pool.of(generation, State.STARTING, State.READY)
        if (
            generation in self._growing()
            and record.place < generation.count
            and not any(other.place == record.place for other in holders if other is not record)
        ):
            generation.vacant.setdefault(record.place, time.monotonic() + pause_s)

    # --- timed work ---

    def recycle(self, now: float) -> None:
        """Replace a worker that has reached a recycling limit."""
        serving = self.serving
        if serving is None or self._candidate is not None:
            return
        ready = self._pool.of(serving, State.READY)
        alive = [record.wear for record in self._pool]
        due = self._recycler.pick(alive, [record.wear for record in ready], serving.recycle_limits, now)
        for record in ready:
            if record.wear is due:
                serving.vacant.setdefault(record.place, now)

    def next_due(self) -> list[float]:
        """Return the times at which vacant places are due, in monotonic seconds."""
        return [
            due for generation in self._growing() if self._may_fork(generation) for due in generation.vacant.values()
        ]

    @property
    def has_vacancies(self) -> bool:
        """Whether a place waits for its next worker."""
        return any(generation.vacant for generation in self._growing())

    def fill_places(self) -> None:
        """Fork the workers that are due."""
        for generation in self._growing():
            for place in generation.due(time.monotonic()):
                if not self._may_fork(generation):
                    break
                try:
                    self._pool.fork(generation, place)
                except OSError as error:  # out of processes, memory or descriptors; the other workers go on
                    logger.error("cannot fork a worker, next try in %g s: %s", FORK_RETRY_S, error)
                    generation.vacant[place] = time.monotonic() + FORK_RETRY_S
                    return
                del generation.vacant[place]

    def _may_fork(self, generation: Generation) -> bool:
        if generation.spec.sockets_from is not None:  # the first worker of a program says where to listen
            return not self._pool.of(generation, State.STARTING, State.READY)
        if generation.zygote is not None and not generation.zygote.was_ready:
            return False
        if generation is self.serving or self.serving is None:
            return True
        starting, ready = (len(self._pool.of(generation, state)) for state in (State.STARTING, State.READY))
        return starting < max(1, ready)


def _log_failure(text: str, failure: Failed) -> None:
    logger.error("%s: %s", text, failure.reason)
    if failure.details:
        logger.error("%s", failure.details)
