"""Drive a conversation's model: its actions over a link, its timers, and its events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from se_server.errors import CallerError
from se_server.simulator.calls import Action, Close, Pong, Reconnect, Reset, Said, Send
from se_server.simulator.connection import Connect, Ended, Happening, Link, LinkEvents, OnEvent
from se_server.simulator.model import ApiModel
from se_server.simulator.recording import Recording


class Driver:
    """The I/O of a `Conversation`: it carries out the model's actions and feeds the model messages and time.

    The arguments are those of `Conversation`.
    """

    def __init__(
        self,
        connect: Connect,
        model: ApiModel,
        *,
        reply_timeout_s: float = 30.0,
        on_event: OnEvent | None = None,
        recording: Recording | None = None,
        clock: Callable[[], float] | None = None,
        name: str = "the server",
    ) -> None:
        self.model = model
        self.ended: Ended | None = None
        self._connect = connect
        self._reply_timeout_s = reply_timeout_s
        self._on_event = on_event
        self._recording = recording
        self.recording_problem: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._name = name
        self._events: LinkEvents | None = None
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[bool]] = []
        self.pings_answered = 0
        self._turns_reported = 0

    async def open(self) -> None:
        """Connect and begin the conversation.

        Raises:
            CallerError: the connection was refused.
        """
        self._events = LinkEvents(self)
        self._link = await self._connect(self._events)
        self._record("open", "out")
        if self._events.is_live:
            self.act(self.model.connected(now=self._clock()))

    @property
    def is_open(self) -> bool:
        """Whether the conversation goes on, with or without a connection at the moment."""
        return self._link is not None and self.ended is None

    @property
    def now(self) -> float:
        """The time of the conversation's clock, in seconds."""
        return self._clock()

    def changed(self, within_s: float | None = None) -> asyncio.Future[bool]:
        """Return a future that is done at the next event, utterance or end of a connection.

        Await it directly: before Python 3.12 `wait_for` may start late and miss an event, and loses a cancellation
        that comes with one.

        Args:
            within_s: the time after which the future is done with False; otherwise its result is True.
        """
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters.append(waiter)
        if within_s is not None:
            timer = self._loop.call_later(within_s, _set, waiter, False)
            waiter.add_done_callback(lambda _: timer.cancel())
        return waiter

    # --- ending -----------------------------------------------------------------------------------------------------

    async def close(self, *, timeout_s: float = 2.0) -> None:
        """End the conversation as the API does: a `close` message, then the WebSocket's close handshake. Idempotent.

        Args:
            timeout_s: how long to wait for the server's CLOSE, in seconds, before the connection is dropped.
        """
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._link is None or self.ended is not None:
            return
        if not self.model.is_connected:
            self._hang_up_unconnected()
            return
        if not self.model.is_closed:
            self.act(self.model.close(now=self._clock()))
        until = self._loop.time() + timeout_s
        while self.ended is None:
            if not await self.changed(until - self._loop.time()):
                self._link.drop()
                await self.wait_ended()

    def drop(self) -> None:
        """Drop the connection without a close handshake, as a network failure does."""
        if self._link is None or self.ended is not None:
            return
        if self.model.is_connected:
            self.model.hung_up(now=self._clock())
            self._link.drop()
        else:
            self._hang_up_unconnected()

    async def reconnect(self, *, after_s: float = 0.1, repeats: bool = True) -> None:
        """Drop the connection and continue the same conversation over a new one.

        Args:
            after_s: the time without a connection, in seconds.
            repeats: whether a question without any answer is asked again.

        Raises:
            CallerError: the conversation has ended, or the new connection was refused.
        """
        self.check_open()
        assert self._events is not None
        assert self._link is not None
        self._events.is_live = False
        self._link.drop()
        self._record("drop", "out")
        self.model.disconnected(now=self._clock())
        await self._reconnect(after_s, repeats=repeats)
        self.check_open()

    async def wait_ended(self) -> Ended:
        """Wait until the conversation is over and return its end."""
        while self.ended is None:
            await self.changed()
        return self.ended

    # --- the link ---------------------------------------------------------------------------------------------------

    def act(self, actions: list[Action]) -> None:
        """Carry out the actions of the model, and report a new turn."""
        turns = self.model.turns
        if len(turns) > self._turns_reported:
            self._turns_reported = len(turns)
            before = turns[-2] if len(turns) > 1 else None
            self._report(Said(turns[-1], before is not None and before.interrupted_at == turns[-1].said_at))
        for action in actions:
            link, events = self._link, self._events
            assert link is not None
            assert events is not None
            self._note(action)
            if isinstance(action, Reconnect):
                self._reconnecting = self._loop.create_task(self._reconnect(action.after_s))
            elif isinstance(action, Send):
                link.send(action.message, is_joined=action.is_joined)
            elif isinstance(action, Close):
                link.close(action.code)
            else:
                # Ignore later events of this connection; its end is the API's own doing.
                events.is_live = False
                link.reset() if isinstance(action, Reset) else link.drop()
                if self.model.is_closed:
                    self._finish(None, "", is_clean=False, by_server=False)
        self._set_timer()

    async def _reconnect(self, after_s: float, *, repeats: bool = True) -> None:
        await asyncio.sleep(after_s)
        events = LinkEvents(self)
        try:
            link = await self._connect(events)
        except CallerError as error:
            self.model.lost(now=self._clock())
            self._finish(None, str(error), is_clean=False, by_server=True)
            return
        self._events, self._link = events, link
        self._record("open", "out")
        if events.is_live:
            self.act(self.model.connected(now=self._clock(), repeats=repeats))
        self.wake()

    def _hang_up_unconnected(self) -> None:
        """End a conversation that is between two connections; there is no close handshake to wait for."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self.model.hung_up(now=self._clock())
        self._finish(None, "", is_clean=False, by_server=False)

    def on_message(self, message: str | bytes) -> None:
        self._record("text" if isinstance(message, str) else "binary", "in", message)
        event = self.model.receive(message, now=self._clock())
        if isinstance(event, Pong):
            self.pings_answered += 1
        self._report(event)
        self._set_timer()
        self.wake()

    def on_traffic(self, kind: str) -> None:
        self._record(kind, "in")
        self.model.traffic(now=self._clock())

    def on_gone(self, code: int | None, reason: str, is_clean: bool) -> None:
        by_server = not self.model.is_closed
        if by_server:
            self.model.lost(now=self._clock())
        self._finish(code, reason, is_clean=is_clean, by_server=by_server)

    def _finish(self, code: int | None, reason: str, *, is_clean: bool, by_server: bool) -> None:
        if self.ended is None:
            self.ended = Ended(code, reason, by_server, is_clean, by_habit=self.model.end_reason)
            self._record("end", "in", str(self.ended))
            self._set_timer()
            self._report(self.ended)
            self.wake()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.model.next_due()
        if due is not None and self.ended is None:
            self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._tick, due)

    def catch_up(self) -> None:
        """Carry out overdue actions first: a waiting coroutine may resume before the timer's callback."""
        now = self._clock()
        due = self.model.next_due()
        if due is not None and due <= now:
            self.act(self.model.tick(now))

    def _tick(self, due: float) -> None:
        self._timer = None
        # A loop may run a timer slightly early by its own clock.
        self.act(self.model.tick(max(self._clock(), due)))
        self.wake()

    # --- reporting --------------------------------------------------------------------------------------------------

    def _note(self, action: Action) -> None:
        if isinstance(action, Send):
            self._record("text" if isinstance(action.message, str) else "binary", "out", action.message, action.why)
        else:
            self._record(type(action).__name__.lower(), "out", why=action.why)
        if action.why:
            self._report(action)

    def _report(self, happening: Happening) -> None:
        if self._on_event is not None:
            try:
                self._on_event(happening)
            except Exception as error:
                # An exception here would close the link and hide its cause.
                context = {"message": "on_event of a simulated caller raised", "exception": error}
                self._loop.call_exception_handler(context)

    def _record(self, kind: str, direction: str, content: str | bytes | None = None, why: str = "") -> None:
        if self._recording is not None:
            try:
                self._recording.add(self._clock(), direction, kind, content, why)
            except OSError as error:  # the conversation goes on without its recording
                self.recording_problem, self._recording = error, None

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def event(self, awaited: str, until: float | None = None) -> None:
        """Wait for the next event.

        Args:
            awaited: a noun for the awaited event, for the error message.
            until: the time at which to return without an event, in seconds of the conversation's clock.

        Raises:
            CallerError: the conversation has ended, or nothing happened for the reply timeout.
        """
        self.check_open()
        patience_s = self._reply_timeout_s
        if until is not None:
            patience_s = min(patience_s, max(0.0, until - self._clock()))
        if await self.changed(patience_s) or (until is not None and patience_s < self._reply_timeout_s):
            return
        raise CallerError(
            f"no {awaited} from {self._name} for {self._reply_timeout_s:g} s: does the handler send a response?"
        )

    def wake(self) -> None:
        """Complete the futures of `changed`."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _set(waiter, True)

    def check_open(self) -> None:
        """Check that the conversation goes on.

        Raises:
            CallerError: it has ended.
        """
        if self.ended is not None or self.model.end_reason:
            how = self.ended or f"the API ended the conversation: {self.model.end_reason}"
            raise CallerError(f"the conversation is over: {how}")


def _set(waiter: asyncio.Future[bool], has_changed: bool) -> None:
    if not waiter.done():
        waiter.set_result(has_changed)
