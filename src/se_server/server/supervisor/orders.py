"""Orders: the requests of `se-ctl`, and the answers to them.

The supervisor reads numbers from the scoreboard. For anything that only a worker knows it sends a question over the
worker's control channel. It does not wait for the reply: a worker that has not replied within `ANSWER_S` is reported as
silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from se_server import __version__
from se_server.errors import without_keys
from se_server.server.listen.sockets import address_of
from se_server.server.shared.control_messages import Ask, Reply
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import State
from se_server.server.shared.seats import MAX_WORKERS
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.control_socket import Client, ControlSocket
from se_server.server.supervisor.pool import Pool
from se_server.server.supervisor.rollout import Rollout
from se_server.server.supervisor.routes import keys_of, routes_of
from se_server.server.worker.spec import WorkerSpec
from se_server.spelling import counted
from se_server.telemetry._printable import cut
from se_server.telemetry.families import turn_figures

logger = logging.getLogger("se_server.server.orders")

ANSWER_S = 2.0
MAX_ANSWER_S = 6.0
"""Time for a reply of several pages, each of which may take `ANSWER_S`."""
MAX_QUESTIONS = 32
MAX_ROWS = 10_000
"""Rows of one answer. It bounds the memory that a slow client holds."""


Order = Callable[[Client, object], dict[str, object] | None]
"""Carries out an order with its argument; returns the answer, or None if it comes later."""


class Refused(Exception):
    """The order cannot be carried out; the text is one sentence for the operator."""


@dataclass(eq=False)
class _Question:
    """A question to several workers. A question without a client reports to the log.

    Attributes:
        about: the id of the conversation to close, while no conversation was found that has it.
        due: when the answer is sent without the workers that have not replied, in monotonic seconds.
        waiting: the pids of those workers.
        deaf: the pids of workers that do not read their orders, so that the question was not sent.
    """

    client: Client | None
    about: str
    due: float
    end: float
    waiting: set[int]
    deaf: set[int]
    rows: list[list[Any]] = field(default_factory=list)
    left_out: int = 0

    @property
    def silent(self) -> list[int]:
        """The pids of the workers whose reply is missing."""
        return sorted(self.waiting | self.deaf)


class Orders:
    """Carries out the requests that arrive at the control socket.

    Args:
        control_socket: receives the requests.
        pool, rollout: carry them out.
        reload: begins a reload; returns why that is impossible, or an empty string.
        stop: makes the whole server drain and end; returns why that is impossible, or an empty string.
        reopen_log: reopens the log file of this process; returns why that is impossible, or an empty string.
        observer_orders: the orders that the observer carries out, by name.
        admin: the address of the observer; None without one.
    """

    def __init__(
        self,
        control_socket: ControlSocket,
        pool: Pool,
        rollout: Rollout,
        *,
        reload: Callable[[], str],
        stop: Callable[[], str],
        reopen_log: Callable[[], str],
        observer_orders: Mapping[str, Order] = MappingProxyType({}),
        admin: str | None = None,
    ) -> None:
        self._admin = admin
        self._control_socket = control_socket
        self._pool = pool
        self._rollout = rollout
        self._reload = reload
        self._stop = stop
        self._reopen_log = reopen_log
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._addresses: list[str] = []
        self._addresses_of(rollout.spec)
        self._orders: dict[str, Order] = {
            "status": self._status,
            "drain": self._drain,
            "reload": self._begin_reload,
            "scale": self._scale,
            "calls": lambda client, _: self._ask(client, "calls", "", self._replying()),
            "close": self._close_call,
            "stacks": lambda client, given: self._ask(client, "stacks", "", [self._find(given)]),
            "reopen-log": lambda client, _: self._reopen(client),
            "keys": lambda _client, _given: {"rows": keys_of(self._rollout.spec.config)},
            **observer_orders,
        }

    def serve(self) -> None:
        """Carry out new requests, and answer those whose workers have replied or whose time is up."""
        for client, request in self._control_socket.take():
            self._serve(client, request)
        now = time.monotonic()
        for ticket, question in list(self._questions.items()):
            alive = {record.pid for record in self._pool}  # a worker that has ended does not reply
            question.waiting &= alive
            question.deaf &= alive
            asker = question.client
            if question.waiting and question.due > now and not (asker is not None and asker.closed):
                continue
            del self._questions[ticket]
            if asker is None:
                _log_reopening(question)
            elif question.about and any(isinstance(row[2], dict) for row in question.rows):
                self._close_match(asker, question)
            else:
                asker.answer({"rows": question.rows, "left_out": question.left_out, "silent": question.silent})
        self._control_socket.forget_closed()

    def next_due(self) -> list[float]:
        """Return the times at which `serve` has to run, in monotonic seconds."""
        return [*(question.due for question in self._questions.values()), *self._control_socket.next_due()]

    def take_reply(self, record: WorkerRecord, message: Reply) -> None:
        """Add a page of a worker's reply to the answer."""
        question = self._questions.get(message.ticket)
        if question is None or record.pid not in question.waiting:
            return  # the answer was sent without it
        if message.more:
            question.due = min(question.end, time.monotonic() + ANSWER_S)
        else:
            question.waiting.discard(record.pid)
        room = MAX_ROWS - len(question.rows)
        question.rows += [[record.place, record.pid, row] for row in message.rows[:room]]
        question.left_out += max(0, len(message.rows) - room) + message.left_out

    def reopen_log(self) -> None:
        """Reopen the log file here and in all workers, and log the result."""
        try:
            self._reopen(None)
        except Refused as refused:
            logger.error("SIGUSR1: %s", refused)

    def _serve(self, client: Client, request: dict[str, object]) -> None:
        name, given = request.get("command"), request.get("argument")
        order = self._orders.get(name) if isinstance(name, str) else None
        try:
            if order is None:
                raise Refused(f"unknown order: use one of {', '.join(self._orders)}")
            if isinstance(given, dict | list):
                raise Refused("the argument of an order is a number or a text")
            if name not in ("status", "calls", "turns", "keys"):
                logger.info("se-ctl: %s", name if given is None else f"{name} {without_keys(cut(str(given)))}")
            answer = order(client, given)
        except Refused as refused:
            answer = {"error": str(refused)}
        if answer is not None:
            client.answer(answer)

    # --- orders ---

    def _status(self, _client: Client, _given: object) -> dict[str, object]:
        now_ns = time.monotonic_ns()
        serving = self._rollout.serving
        seats = self._pool.scoreboard.seats
        spec = self._rollout.spec
        limits = vars(spec.config.capacity)
        board = self._pool.scoreboard
        totals, cells = board.figures()
        return {
            "version": __version__,
            "state": self._rollout.state.name.lower(),
            "generation": None if serving is None else serving.number,
            "wanted": None if serving is None else serving.count,
            "workers": [_row_of(record, now_ns) for record in sorted(self._pool, key=_age_of)],
            "totals": totals,
            "figures": {
                **turn_figures(cells),
                "started_at_s": self._pool.scoreboard.started_at_s,
                "now_s": time.time(),
            },
            "zygotes": [zygote.row() for zygote in self._pool.zygotes],
            "routes": routes_of(spec.config, board),
            "addresses": self._addresses_of(spec),
            "admin": self._admin,
            "limits": {name: value for name, value in limits.items() if value is not None},
            "sessions_elsewhere": max(0, seats.sessions() - sum(record.slot.sessions for record in self._pool)),
        }

    def _addresses_of(self, spec: WorkerSpec) -> list[str]:
        """Return the addresses of the server; while it drains those that it had, since its sockets are closed."""
        sockets = spec.listen_sockets
        if all(sock.fileno() >= 0 for sock in sockets):
            self._addresses = [address_of(sock, tls=spec.tls is not None) for sock in sockets]
        return self._addresses

    def _drain(self, _client: Client, given: object) -> dict[str, object]:
        if given is None:
            return _done(self._stop(), "the server takes no new conversations, and ends after the last one")
        record = self._find(given)
        if not record.serves:
            raise Refused(f"{record} is already draining")
        self._rollout.replace(record)
        return {"done": f"{record} drains, and another one takes its place"}

    def _begin_reload(self, _client: Client, _given: object) -> dict[str, object]:
        return _done(self._reload(), "the reload has begun: se-ctl status shows how it goes")

    def _scale(self, _client: Client, given: object) -> dict[str, object]:
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_WORKERS:
            raise Refused(f"scale takes a number of workers from 1 to {MAX_WORKERS}")
        serving = self._rollout.serving
        if serving is None:
            raise Refused("the server is starting or ending: scale works while it serves")
        self._rollout.scale(given - serving.count)
        return {"done": f"{counted(serving.count, 'worker')} from now on"}

    def _close_call(self, client: Client, given: object) -> None:
        if not isinstance(given, str) or not given:
            raise Refused("close takes the id of a conversation: se-ctl conversations lists them")
        self._ask(client, "close", given, self._replying())

    def _close_match(self, client: Client, question: _Question) -> None:
        """Close the conversation whose id begins with the given text, if that is only one."""
        found = [row[2] for row in question.rows if isinstance(row[2], dict)]
        digests = {str(match.get("digest", "")) for match in found}
        count = sum(matches for match in found if isinstance(matches := match.get("matches"), int))
        prefix = cut(question.about)
        closed = [row for row in question.rows if not isinstance(row[2], dict)]
        if closed:  # another worker has a conversation with exactly this id
            client.answer({"rows": closed, "left_out": question.left_out, "silent": question.silent})
        elif question.silent:
            silent = ", ".join(map(str, question.silent))
            client.answer(
                {"error": f"no answer from worker {silent}, which may have other ids that start with {prefix}"}
            )
        elif len(digests) > 1 or "" in digests:
            client.answer({"error": f"{count} conversations have ids that start with {prefix}: give more of the id"})
        else:
            try:
                self._ask(client, "close-match", f"{digests.pop()} {question.about}", self._replying())
            except Refused as refused:
                client.answer({"error": str(refused)})

    def _reopen(self, client: Client | None) -> None:
        problem = self._reopen_log()
        if problem:
            raise Refused(problem)
        for zygote in self._pool.zygotes:
            zygote.reopen_log()
        self._ask(client, "reopen-log", "", list(self._pool))

    # --- questions to workers ---

    def _replying(self) -> list[WorkerRecord]:
        return [record for record in self._pool if record.state in (State.READY, State.DRAINING)]

    def _find(self, given: object) -> WorkerRecord:
        """Return a worker by its process id, else by its number in the generation that serves."""
        if isinstance(given, int) and not isinstance(given, bool):
            for record in self._pool:
                if record.pid == given:
                    return record
            for record in sorted(self._pool, key=_age_of):
                if record.place == given and record.serves and record.generation is self._rollout.serving:
                    return record
        raise Refused(f"there is no worker {cut(str(given))}: se-ctl status shows their numbers and process ids")

    def _ask(self, client: Client | None, what: str, about: str, records: Sequence[WorkerRecord]) -> None:
        if client is not None and len(self._questions) >= MAX_QUESTIONS:
            raise Refused(f"the server answers {MAX_QUESTIONS} orders already: try again")
        self._asked += 1
        ask = Ask(self._asked, what, about)
        # A channel with unsent messages has a worker that does not read: further questions would only pile up.
        asked = {record.pid for record in records if not record.channel.has_unsent and record.channel.send(ask)}
        now = time.monotonic()
        deaf = {record.pid for record in records} - asked
        self._questions[self._asked] = _Question(
            client, about if what == "close" else "", now + ANSWER_S, now + MAX_ANSWER_S, asked, deaf
        )


def _done(refusal: str, text: str) -> dict[str, object]:
    return {"error": refusal} if refusal else {"done": text}


def _log_reopening(question: _Question) -> None:
    for place, pid, problem in question.rows:
        logger.error("worker %s (pid %s): %s", place, pid, problem)
    for pid in question.silent:
        logger.warning("the worker with pid %s did not reply: it may still write to the old log file", pid)
    if not question.rows and not question.silent:
        logger.info("SIGUSR1: all processes write to the new log file")


def _age_of(record: WorkerRecord) -> float:
    return record.started_at


def _row_of(record: WorkerRecord, now_ns: int) -> dict[str, object]:
    slot = record.slot
    state = record.state
    if record.drain_ordered and state is not State.STOPPED:
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
