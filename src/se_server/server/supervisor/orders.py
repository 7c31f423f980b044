"""What `se-ctl` may ask of the supervisor, and how it is answered.

What the scoreboard shows is read there. What only a worker knows is asked over its control channel: the answer comes
later, or the worker is named as silent after `ANSWER_S`; the supervisor never waits for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from se_server import __version__
from se_server.server.config.readers import MAX_WORKERS
from se_server.server.shared.control import Ask, Told
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import State
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.control_socket import Client, Desk
from se_server.server.supervisor.pool import Crew
from se_server.server.supervisor.rollout import Rollout

logger = logging.getLogger("se_server.server.orders")

ANSWER_S = 2.0
MAX_ROWS = 10_000
"""Lines of an answer that are passed on: more would be read by nobody, and be kept here for a client that is slow."""


class Refused(Exception):
    """An order that cannot be; the text is one sentence for the operator."""


@dataclass(eq=False)
class _Question:
    """What some workers were asked for one client; None is the log."""

    client: Client | None
    due: float
    waiting: set[int]  # pids
    rows: list[list[object]] = field(default_factory=list)
    left_out: int = 0


class Orders:
    """Takes requests from the desk and answers them.

    Args:
        desk: where they come from.
        crew, rollout: who does what is asked.
        reload: begins a reload; returns why not, or nothing.
        stop: lets the whole server drain and end; returns why not, or nothing.
        reopen_log: opens this process's log file anew; returns why not, or nothing.
    """

    def __init__(
        self,
        desk: Desk,
        crew: Crew,
        rollout: Rollout,
        *,
        reload: Callable[[], str],
        stop: Callable[[], str],
        reopen_log: Callable[[], str],
    ) -> None:
        self._desk = desk
        self._crew = crew
        self._rollout = rollout
        self._reload = reload
        self._stop = stop
        self._reopen_log = reopen_log
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._orders: dict[str, Callable[[Client, object], dict[str, object] | None]] = {
            "status": self._status,
            "drain": self._drain,
            "reload": self._begin_reload,
            "scale": self._scale,
            "calls": lambda client, _: self._ask(client, "calls", "", self._answering()),
            "close": self._close_call,
            "stacks": lambda client, given: self._ask(client, "stacks", "", [self._find(given)]),
            "reopen-log": lambda client, _: self._reopen(client),
        }

    def serve(self) -> None:
        """Do what has been asked since the last time, and give up on who does not answer."""
        for client, request in self._desk.take():
            self._serve(client, request)
        now = time.monotonic()
        for ticket, question in list(self._questions.items()):
            question.waiting &= {record.pid for record in self._crew}  # who has ended answers no more
            asker = question.client
            if question.waiting and question.due > now and not (asker is not None and asker.closed):
                continue
            del self._questions[ticket]
            if asker is None:
                _log_reopening(question)
            else:
                asker.answer({"rows": question.rows, "left_out": question.left_out, "silent": sorted(question.waiting)})
        self._desk.forget_closed()

    def next_due(self) -> list[float]:
        """Return when something is due, in monotonic seconds."""
        return [*(question.due for question in self._questions.values()), *self._desk.next_due()]

    def told(self, record: WorkerRecord, message: Told) -> None:
        """Take what a worker has answered."""
        question = self._questions.get(message.ticket)
        if question is None or record.pid not in question.waiting:
            return  # too late
        question.waiting.discard(record.pid)
        room = MAX_ROWS - len(question.rows)
        question.rows += [[record.place, record.pid, row] for row in message.rows[:room]]
        question.left_out += max(0, len(message.rows) - room) + message.left_out

    def reopen_log(self) -> None:
        """Open the log file anew, here and in all workers, and say in the log how it went."""
        try:
            self._reopen(None)
        except Refused as refused:
            logger.error("SIGUSR1: %s", refused)

    def _serve(self, client: Client, request: dict[str, object]) -> None:
        name, given = request.get("command"), request.get("argument")
        order = self._orders.get(name) if isinstance(name, str) else None
        try:
            if order is None:
                raise Refused(f"there is no such order; known are {', '.join(self._orders)}")
            if name not in ("status", "calls"):
                logger.info("se-ctl: %s", name if given is None else f"{name} {given}")
            answer = order(client, given)
        except Refused as refused:
            answer = {"error": str(refused)}
        if answer is not None:
            client.answer(answer)

    # --- orders ---

    def _status(self, _client: Client, _given: object) -> dict[str, object]:
        now_ns = time.monotonic_ns()
        serving = self._rollout.serving
        seats = self._crew.scoreboard.seats
        return {
            "version": __version__,
            "state": self._rollout.state.name.lower(),
            "generation": None if serving is None else serving.number,
            "wanted": None if serving is None else serving.count,
            "workers": [_row_of(record, now_ns) for record in sorted(self._crew, key=_age_of)],
            "totals": self._crew.scoreboard.totals(),
            "sessions_elsewhere": max(0, seats.sessions() - sum(record.slot.sessions for record in self._crew)),
        }

    def _drain(self, _client: Client, given: object) -> dict[str, object]:
        if given is None:
            return _done(self._stop(), "the server takes no new conversations, and ends after the last one")
        record = self._find(given)
        if not record.serves:
            raise Refused(f"{record} drains already")
        self._rollout.replace(record)
        return {"done": f"{record} drains, and another one takes its place"}

    def _begin_reload(self, _client: Client, _given: object) -> dict[str, object]:
        return _done(self._reload(), "the reload has begun: se-ctl status shows how it goes")

    def _scale(self, _client: Client, given: object) -> dict[str, object]:
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_WORKERS:
            raise Refused(f"scale wants a number of workers from 1 to {MAX_WORKERS}")
        serving = self._rollout.serving
        if serving is None:
            raise Refused("the server is about to start or to end: there is nothing to scale")
        self._rollout.scale(given - serving.count)
        return {"done": f"{serving.count} workers from now on" if serving.count > 1 else "1 worker from now on"}

    def _close_call(self, client: Client, given: object) -> None:
        if not isinstance(given, str) or not given:
            raise Refused("close wants the id of a conversation: se-ctl calls shows them")
        self._ask(client, "close", given, self._answering())

    def _reopen(self, client: Client | None) -> None:
        problem = self._reopen_log()
        if problem:
            raise Refused(problem)
        self._ask(client, "reopen-log", "", list(self._crew))

    # --- workers ---

    def _answering(self) -> list[WorkerRecord]:
        return [record for record in self._crew if record.state in (State.READY, State.DRAINING)]

    def _find(self, given: object) -> WorkerRecord:
        """Find a worker by its process id, else by its number among those that serve."""
        if isinstance(given, int) and not isinstance(given, bool):
            for record in self._crew:
                if record.pid == given:
                    return record
            for record in sorted(self._crew, key=_age_of):
                if record.place == given and record.serves and record.generation is self._rollout.serving:
                    return record
        raise Refused(f"there is no worker {given}: se-ctl status shows their numbers and process ids")

    def _ask(self, client: Client | None, what: str, about: str, records: Sequence[WorkerRecord]) -> None:
        self._asked += 1
        asked = {record.pid for record in records if record.channel.send(Ask(self._asked, what, about))}
        self._questions[self._asked] = _Question(client, time.monotonic() + ANSWER_S, asked)


def _done(refusal: str, text: str) -> dict[str, object]:
    return {"error": refusal} if refusal else {"done": text}


def _log_reopening(question: _Question) -> None:
    for place, pid, problem in question.rows:
        logger.error("worker %s (pid %s): %s", place, pid, problem)
    for pid in sorted(question.waiting):
        logger.warning("the worker with pid %s does not answer: it still writes to the old log file", pid)
    if not question.rows and not question.waiting:
        logger.info("SIGUSR1: all processes write to the new log file")


def _age_of(record: WorkerRecord) -> float:
    return record.started_at


def _row_of(record: WorkerRecord, now_ns: int) -> dict[str, object]:
    slot = record.slot
    state = record.state
    if record.told and state is not State.STOPPED:
        state = State.DRAINING
    return {
        "worker": record.place,
        "pid": record.pid,
        "generation": record.generation.number,
        "state": state.name.lower(),
        "age_s": round((now_ns - slot.started_ns) / 1e9, 1),
        "sessions": slot.sessions,
        "turns": slot.turns,
        "loop_lag_s": round(slot.loop_lag_ns / 1e9, 4),
        "silent_s": round((now_ns - slot.heartbeat_ns) / 1e9, 2) if slot.heartbeat_ns else None,
        "rss_bytes": rss_bytes_of(record.pid),
    }
