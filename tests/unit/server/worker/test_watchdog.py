"""The watchdog thread, with the supervisor's end of its control channel in the test."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, Drain, Dumped, Message, Reply, Stacks
from se_server.server.shared.exit_codes import EXIT_HUNG
from se_server.server.shared.scoreboard import State
from se_server.server.worker import watchdog as watchdog_module
from se_server.server.worker.watchdog import Watchdog


class FakeLoop:
    """Runs callbacks at once; a closed one refuses them as asyncio's does."""

    def __init__(self) -> None:
        self.is_closed = False

    def call_soon_threadsafe(self, callback: Any, *arguments: Any) -> None:
        if self.is_closed:
            raise RuntimeError("Event loop is closed")
        callback(*arguments)


class Worker:
    """A worker's watchdog, and the process around it.

    Attributes:
        taken: the messages that reached the loop; None stands for the end of the supervisor.
        exits: the exit codes with which the watchdog ended the process.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, hang_timeout_s: float = 0.05, end_s: float = 60.0) -> None:
        self.supervisor, channel = ControlChannel.pair()
        self.slot: Any = SimpleNamespace(heartbeat_ns=0, state=State.READY)
        self.log: Any = SimpleNamespace(reopen=lambda: self.problem)
        self.problem = ""
        self.loop: Any = FakeLoop()
        self.taken: list[Message | None] = []
        self.exits: list[int] = []
        self.watchdog = Watchdog(channel, self.slot, hang_timeout_s=hang_timeout_s, end_s=end_s, log_file=self.log)
        self.channel = channel
        monkeypatch.setattr(watchdog_module.os, "_exit", self._exit)
        monkeypatch.setattr("se_server.server.shared.liveness.threads_of", lambda *_, **__: None)
        monkeypatch.setattr(watchdog_module, "stack_lines", lambda loop: ["thread Main stands at agent.py:1"])
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _exit(self, code: int) -> None:
        self.exits.append(code)
        raise SystemExit

    def _run(self) -> None:
        try:
            self.watchdog._run()
        except SystemExit:
            return

    def start(self) -> None:
        self._thread.start()

    def attach(self) -> None:
        self.watchdog.attach(self.loop, self.taken.append)

    def answer(self) -> list[Message]:
        """Wait for messages of the watchdog, and return them."""
        poll = select.poll()
        poll.register(self.supervisor.fileno(), select.POLLIN)
        assert poll.poll(5000)
        return self.supervisor.receive()

    def end_supervisor(self) -> None:
        """Close the supervisor's end, and wait until the watchdog has ended the process."""
        self.supervisor.close()
        self.wait_for_exit()
        self.channel.close()

    def wait_for_exit(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    made = Worker(monkeypatch)
    yield made
    made.end_supervisor()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (Stacks(), Dumped()),
        (Ask(3, "stacks"), Reply(3, ["thread Main stands at agent.py:1"])),
        (Ask(4, "reopen-log"), Reply(4)),
    ],
)
def test_a_blocked_loop_does_not_delay_answers(worker: Worker, sent: Message, answer: Message) -> None:
    worker.start()
    worker.attach()
    worker.supervisor.send(sent)
    assert worker.answer() == [answer]
    assert worker.taken == []


def test_a_log_that_cannot_be_reopened_is_reported(worker: Worker) -> None:
    worker.problem = "cannot write to it"
    worker.start()
    worker.supervisor.send(Ask(5, "reopen-log"))
    assert worker.answer() == [Reply(5, ["cannot write to it"])]


def test_other_messages_reach_the_loop_in_order(worker: Worker) -> None:
    sent: list[Message] = [Drain(1.0), Ask(1, "calls"), Drain(0.5, 2.0)]
    worker.supervisor.send(sent[0])
    worker.supervisor.send(sent[1])
    worker.start()
    worker.supervisor.send(Stacks())
    assert worker.answer() == [Dumped()]  # the first two have been read
    worker.attach()
    worker.supervisor.send(sent[2])
    worker.supervisor.send(Stacks())
    assert worker.answer() == [Dumped()]
    assert worker.taken == sent


def test_an_orphan_that_still_imports_ends_at_once(worker: Worker) -> None:
    worker.start()
    worker.end_supervisor()
    assert worker.exits == [EXIT_HUNG]


def test_an_invalid_message_ends_the_channel(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.start()
    worker.supervisor._socket.send(b"nonsense\n")
    worker.wait_for_exit()
    assert worker.exits == [EXIT_HUNG]
    assert caplog.records


@pytest.mark.parametrize(
    ("hang_timeout_s", "end_s", "text"), [(0.05, 60.0, "stands still"), (1.0, 0.05, "did not end in time")]
)
def test_an_orphan_that_does_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hang_timeout_s: float, end_s: float, text: str
) -> None:
    made = Worker(monkeypatch, hang_timeout_s=hang_timeout_s, end_s=end_s)
    made.start()
    made.attach()
    made.end_supervisor()
    assert made.taken == [None]
    assert made.exits == [EXIT_HUNG]
    assert text in caplog.text


def test_a_closed_loop_drops_messages(worker: Worker) -> None:
    worker.start()
    worker.attach()
    worker.loop.is_closed = True
    worker.supervisor.send(Drain(1.0))
    worker.supervisor.send(Ask(6, "stacks"))
    assert isinstance(worker.answer()[0], Reply)
    assert worker.taken == []


def test_the_loop_can_be_a_real_one(worker: Worker) -> None:
    async def attach_and_wait() -> Message | None:
        loop = asyncio.get_running_loop()
        came: asyncio.Future[Message | None] = loop.create_future()
        worker.watchdog.attach(loop, came.set_result)
        worker.supervisor.send(Drain(7.0))
        return await asyncio.wait_for(came, 5)

    worker.start()
    assert asyncio.run(attach_and_wait()) == Drain(7.0)
