"""The orders of `se-ctl`, each given to a server whose workers are fakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from se_server.server.shared.control_messages import Ask, Reply
from se_server.server.shared.scoreboard import State
from se_server.server.supervisor import orders as orders_module
from se_server.server.supervisor.control_socket import ControlSocket
from se_server.server.supervisor.orders import ANSWER_S, MAX_QUESTIONS, MAX_ROWS, Orders
from tests.unit.server.supervisor.fakes import Stage


class FakeClient:
    def __init__(self) -> None:
        self.closed = False
        self.answers: list[Mapping[str, Any]] = []

    def answer(self, body: Mapping[str, Any]) -> None:
        self.answers.append(body)


class FakeControlSocket(ControlSocket):
    """Returns the requests that a test has put in."""

    def __init__(self) -> None:
        super().__init__(None)
        self.requests: list[tuple[Any, dict[str, object]]] = []

    def take(self) -> list[tuple[Any, dict[str, object]]]:
        taken, self.requests = self.requests, []
        return taken


class Server:
    """A server with two ready workers, and its orders.

    Attributes:
        refusal: the reason with which reload, stop and reopen_log refuse.
        done: the names of those that were carried out.
    """

    def __init__(self) -> None:
        self.stage = Stage(workers=2)
        self.refusal = ""
        self.done: list[str] = []
        self.socket = FakeControlSocket()
        self.orders = Orders(
            self.socket,
            self.stage.pool,
            self.stage.rollout,
            reload=lambda: self._do("reload"),
            stop=lambda: self._do("stop"),
            reopen_log=lambda: self._do("reopen-log"),
        )

    def _do(self, name: str) -> str:
        if not self.refusal:
            self.done.append(name)
        return self.refusal

    def give(self, command: object, argument: object = None) -> FakeClient:
        client = FakeClient()
        self.socket.requests.append((client, {"command": command, "argument": argument}))
        self.orders.serve()
        return client

    def asked(self) -> dict[int, Ask]:
        """Return the question that each worker got, by place."""
        found = {}
        for record in self.stage.pool:
            for message in self.stage.pool.sent_to(record):
                assert isinstance(message, Ask)
                found[record.place] = message
        return found

    def reply(self, place: int, ticket: int, *rows: object, left_out: int = 0, more: bool = False) -> None:
        self.orders.take_reply(self.stage.worker(place, 1), Reply(ticket, [*rows], left_out, more))
        self.orders.serve()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.stage.play("begin 2", "ready 0.1", "ready 1.1")
    yield made
    made.stage.pool.close()


FIRST_PID = 1_000_000


@pytest.mark.parametrize(
    ("command", "argument", "answer", "done", "alive"),
    [
        ("reload", None, "the reload has begun", ["reload"], 2),
        ("drain", None, "the server takes no new conversations", ["stop"], 2),
        ("drain", 1, "worker 1 (pid 1000001) drains, and another one takes its place", [], 1),
        ("drain", FIRST_PID, "worker 0 (pid 1000000) drains, and another one takes its place", [], 1),
        ("scale", 1, "1 worker from now on", [], 1),
        ("scale", 5, "5 workers from now on", [], 2),
    ],
)
def test_an_order_is_carried_out(
    server: Server, command: str, argument: object, answer: str, done: list[str], alive: int
) -> None:
    client = server.give(command, argument)
    (body,) = client.answers
    assert body["done"].startswith(answer)
    assert server.done == done
    assert len(list(server.stage.alive())) == alive


@pytest.mark.parametrize(
    ("command", "argument", "error"),
    [
        ("restart", None, "unknown order: use one of status, drain, "),
        (None, None, "unknown order"),
        (["status"], None, "unknown order"),
        ("drain", 7, "there is no worker 7"),
        ("drain", True, "there is no worker True"),
        ("drain", "0", "there is no worker 0"),
        ("scale", 0, "scale takes a number of workers from 1 to 1024"),
        ("scale", 1025, "scale takes a number of workers"),
        ("scale", True, "scale takes a number of workers"),
        ("scale", "2", "scale takes a number of workers"),
        ("close", "", "close takes the id of a conversation"),
        ("close", 3, "close takes the id of a conversation"),
        ("stacks", None, "there is no worker None"),
        ("stacks", [[]], "the argument of an order is a number or a text"),
        ("drain", {"worker": 1}, "the argument of an order"),
        ("stacks", "\x1b" * 1000, "there is no worker " + "\\x1b" * 32 + ":"),
    ],
)
def test_an_impossible_order_is_refused(server: Server, command: object, argument: object, error: str) -> None:
    client = server.give(command, argument)
    (body,) = client.answers
    assert body["error"].startswith(error)
    assert len(list(server.stage.alive())) == 2
    assert server.asked() == {}


@pytest.mark.parametrize("command", ["reload", "drain", "reopen-log"])
def test_a_refusal_reaches_the_client(server: Server, command: str) -> None:
    server.refusal = "not now"
    assert server.give(command).answers == [{"error": "not now"}]
    assert server.asked() == {}


def test_a_draining_worker_cannot_be_drained_again(server: Server) -> None:
    server.give("drain", FIRST_PID)
    (body,) = server.give("drain", FIRST_PID).answers
    assert body == {"error": "worker 0 (pid 1000000) is already draining"}


def test_scale_needs_a_serving_generation(server: Server) -> None:
    server.stage.rollout.end()
    assert "works while it serves" in server.give("scale", 2).answers[0]["error"]


def test_status_shows_every_worker(server: Server) -> None:
    server.stage.worker(0, 1).slot.sessions = 3
    server.give("drain", 1)
    (body,) = server.give("status").answers
    assert (body["state"], body["generation"], body["wanted"]) == ("ready", 1, 2)
    assert [(row["worker"], row["state"], row["sessions"]) for row in body["workers"]] == [
        (0, "ready", 3),
        (1, "draining", 0),
    ]
    assert body["totals"]["sessions_opened"] == 0


@pytest.mark.parametrize(
    ("command", "argument", "asked"),
    [
        ("calls", None, {0: ("calls", ""), 1: ("calls", "")}),
        ("close", "conv_1", {0: ("close", "conv_1"), 1: ("close", "conv_1")}),
        ("stacks", 1, {1: ("stacks", "")}),
        ("reopen-log", None, {0: ("reopen-log", ""), 1: ("reopen-log", "")}),
    ],
)
def test_a_question_reaches_its_workers(
    server: Server, command: str, argument: object, asked: dict[int, tuple[str, str]]
) -> None:
    assert server.give(command, argument).answers == []
    assert {place: (ask.what, ask.about) for place, ask in server.asked().items()} == asked


def test_an_answer_waits_for_all_replies(server: Server) -> None:
    client = server.give("calls")
    ticket = server.asked()[0].ticket
    server.reply(1, ticket, "b", left_out=2)
    assert client.answers == []
    server.reply(1, ticket, "again")  # only one reply of a worker counts
    server.reply(0, ticket + 1, "unasked")
    server.reply(0, ticket, "a")
    assert client.answers == [{"rows": [[1, 1000001, "b"], [0, 1000000, "a"]], "left_out": 2, "silent": []}]
    server.reply(0, ticket, "late")
    assert len(client.answers) == 1


def test_an_answer_waits_for_all_pages(server: Server) -> None:
    client = server.give("calls")
    ticket = server.asked()[0].ticket
    server.reply(0, ticket, "a", more=True)
    server.reply(1, ticket, "b")
    assert client.answers == []
    server.reply(0, ticket, "c")
    (body,) = client.answers
    assert [row[2] for row in body["rows"]] == ["a", "b", "c"]


def test_a_worker_that_reads_nothing_is_not_asked(server: Server) -> None:
    """Its questions would pile up; it is named at once."""
    record = server.stage.worker(0, 1)
    while not record.channel.has_unsent:
        record.channel.send(Ask(0, "calls", "x" * 4000))
    clients = [server.give("calls") for _ in range(5)]
    (ticket, *others) = (message.ticket for message in server.stage.pool.sent_to(server.stage.worker(1, 1)))
    server.reply(1, ticket, "b")
    assert clients[0].answers == [{"rows": [[1, 1000001, "b"]], "left_out": 0, "silent": [1000000]}]
    assert len(others) == 4


def matching(matches: int, ids: int, digest: str = "") -> dict[str, object]:
    return {"matches": matches, "ids": ids, "digest": digest}


def test_a_unique_prefix_closes_its_conversations(server: Server) -> None:
    """Two conversations on two workers may have the same id."""
    client = server.give("close", "conv_")
    ticket = server.asked()[0].ticket
    for place in (0, 1):
        server.reply(place, ticket, matching(1, 1, "d1"))
    asked = server.asked()
    assert [(ask.what, ask.about) for ask in asked.values()] == [("close-match", "d1 conv_")] * 2
    for place in (0, 1):
        server.reply(place, asked[0].ticket, "conv_1")
    (body,) = client.answers
    assert [row[2] for row in body["rows"]] == ["conv_1", "conv_1"]


@pytest.mark.parametrize(
    "found", [(matching(3, 3), matching(4, 1, "d1")), (matching(3, 1, "d1"), matching(4, 1, "d2"))]
)
def test_an_ambiguous_prefix_is_refused(server: Server, found: tuple[object, object]) -> None:
    client = server.give("close", "conv_")
    ticket = server.asked()[0].ticket
    for place in (0, 1):
        server.reply(place, ticket, found[place])
    assert client.answers == [{"error": "7 conversations have ids that start with conv_: give more of the id"}]


def test_an_exact_id_wins_over_prefixes(server: Server) -> None:
    client = server.give("close", "conv_1")
    ticket = server.asked()[0].ticket
    server.reply(0, ticket, matching(1, 1, "d1"))
    server.reply(1, ticket, "conv_1")
    assert client.answers[0]["rows"] == [[1, 1000001, "conv_1"]]
    assert server.asked() == {}


def test_a_prefix_needs_every_worker(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server.give("close", "conv_1")
    server.reply(0, server.asked()[0].ticket, matching(1, 1, "d1"))
    (due,) = server.orders.next_due()
    monkeypatch.setattr(orders_module.time, "monotonic", lambda: due + 0.001)
    server.orders.serve()
    assert client.answers[0]["error"].startswith("no answer from worker 1000001, which may have other ids")


def test_questions_are_limited_in_number(server: Server) -> None:
    clients = [server.give("calls") for _ in range(MAX_QUESTIONS + 1)]
    assert clients[0].answers == []
    assert clients[-1].answers == [{"error": "the server answers 32 orders already: try again"}]


def test_a_silent_worker_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server.give("calls")
    server.reply(0, server.asked()[0].ticket, "a")
    (due,) = server.orders.next_due()
    monkeypatch.setattr(orders_module.time, "monotonic", lambda: due + 0.001)
    server.orders.serve()
    assert client.answers == [{"rows": [[0, 1000000, "a"]], "left_out": 0, "silent": [1000001]}]
    assert server.orders.next_due() == []
    assert ANSWER_S < 10  # se-ctl waits 10 s


def test_a_worker_that_ends_is_not_awaited(server: Server) -> None:
    client = server.give("calls")
    server.reply(0, server.asked()[0].ticket, "a")
    server.stage.pool.remove(server.stage.worker(1, 1))
    server.orders.serve()
    assert client.answers == [{"rows": [[0, 1000000, "a"]], "left_out": 0, "silent": []}]


def test_starting_workers_are_not_asked_for_calls(server: Server) -> None:
    server.stage.worker(0, 1).state = State.STARTING
    server.give("calls")
    assert list(server.asked()) == [1]


def test_a_question_of_a_closed_client_is_forgotten(server: Server) -> None:
    client = server.give("calls")
    client.closed = True
    server.orders.serve()
    assert server.orders.next_due() == []


def test_rows_beyond_the_limit_are_counted(server: Server) -> None:
    client = server.give("calls")
    ticket = server.asked()[0].ticket
    server.reply(0, ticket, *range(MAX_ROWS - 1), left_out=5)
    server.reply(1, ticket, "last", "over", "over")
    (body,) = client.answers
    assert (len(body["rows"]), body["left_out"]) == (MAX_ROWS, 7)
    assert body["rows"][-1] == [1, 1000001, "last"]


@pytest.mark.parametrize(
    ("problem", "messages"),
    [
        ("", ["SIGUSR1: all processes write to the new log file"]),
        ("cannot write to it", ["worker 0 (pid 1000000): cannot write to it"]),
    ],
)
def test_a_reopened_log_is_reported_in_it(
    server: Server, caplog: pytest.LogCaptureFixture, problem: str, messages: list[str]
) -> None:
    caplog.set_level("INFO")
    server.orders.reopen_log()
    asked = server.asked()
    server.reply(0, asked[0].ticket, *([problem] if problem else []))
    server.reply(1, asked[1].ticket)
    assert [entry.getMessage() for entry in caplog.records] == messages
