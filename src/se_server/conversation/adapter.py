"""A session's connection over the WebSocket of another library, whichever it is; `adapters.py` knows each.

Sessions write synchronously, these libraries by coroutines: a writer task delivers in order and counts what is unsent.
Fragments, pings and pongs are the library's own affair, and so are its limits on them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from se_server.conversation._outbox import MessageOutbox, Outbox
from se_server.conversation._rate import Budget, Rate, work_of
from se_server.conversation.core import SessionCore
from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.conversation.settings import DEFAULT_SETTINGS, SessionSettings
from se_server.errors import MessageError
from se_server.protocol import close_codes
from se_server.protocol._wire import History, decode
from se_server.streams.driving import within
from se_server.types import NO_REQUEST, Request

BEYOND_MARKS = 4  # the most that is written to a peer that reads too slowly, as a multiple of the high-water mark


class Adapter:
    """A session's connection over somebody else's WebSocket.

    Subclasses say how to receive, send and close, and where the upgrade request is.

    Attributes:
        has_read: whether reading was started.
    """

    def __init__(self, ws: Any, settings: SessionSettings) -> None:
        self._ws = ws
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # until `bind`
        self._messages: deque[str] = deque()
        self._unsent_bytes = 0
        self._beyond_bytes = 0  # of them, since the peer reads too slowly
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._close_with: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._session: SessionCore | None = None
        self._outbox = MessageOutbox(self._deliver)
        self._outbox.belong(False)
        self._silence: asyncio.TimerHandle | None = None  # until the first message
        self.has_read = False
        self._is_left = False  # to the application

    async def _receive(self) -> str | bytes | None:
        """Return the next message, or None when there will be none."""
        raise NotImplementedError

    async def _send(self, message: str) -> None:
        raise NotImplementedError

    async def _close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    @property
    def request(self) -> Request:
        """The upgrade request, as far as the library shows it."""
        return NO_REQUEST

    @property
    def outbox(self) -> Outbox:
        """The outbox of the session."""
        return self._outbox

    @property
    def ending(self) -> tuple[int | None, str]:
        """The code and the reason that we closed the WebSocket with; the library keeps those of the peer."""
        return self._close_with or (None, "")

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to a loop, and to its thread, which is the caller's."""
        self._loop = loop
        self._outbox.belong(True)
        self._budget = Budget(self._settings.max_work_per_s, self._settings.write_timeout_s, loop.time())
        self._rate = Rate(self._settings.max_messages_per_s, self._settings.max_messages_burst, loop.time())

    @property
    def fd(self) -> int:
        """Always -1: the library owns the socket."""
        return -1

    def attach(self, session: SessionCore) -> None:
        """Tell `session` what arrives."""
        self._session = session

    # --- reading ---

    def start_reading(self) -> bool:
        """Read until the connection ends; return False if that was started before."""
        if self.has_read:
            return False
        self.has_read = True
        self._reader = self._loop.create_task(self._read())
        # The application may have read the first message itself: only a limit that was set for it is kept.
        timeout_s = self._settings.first_message_timeout_s
        if timeout_s != DEFAULT_SETTINGS.first_message_timeout_s:
            self._silence = self._loop.call_later(timeout_s, self._listen_last)
        return True

    async def _read(self) -> None:
        session = self._session
        assert session is not None
        history = History(self._settings.max_message_bytes)
        try:
            while session.is_open:
                raw = await self._receive_or_none(session)
                if raw is None:
                    break
                self._stop_waiting_for_a_message()
                if not self._rate.take(self._loop.time()):
                    self.close(close_codes.POLICY, "too many messages")
                    break
                if not isinstance(raw, (str, bytes, bytearray, memoryview)):
                    session.receive_error(MessageError(f"received {type(raw).__name__}, neither text nor bytes", 0))
                    continue
                data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
                if len(data) > self._settings.max_message_bytes:
                    self.close(close_codes.TOO_BIG, "message is too big")
                    break
                try:
                    message = decode(data, history)
                except MessageError as error:
                    session.receive_error(error)
                else:
                    session.receive(message)
                pause_s = self._budget.take(work_of(len(data), history.take_decoded()), self._loop.time())
                if pause_s < 0:
                    self.close(close_codes.POLICY, "too much work")
                    break
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
        finally:  # the session must end with its reader, or `run` would wait for ever
            self._stop_waiting_for_a_message()
            session.connection_lost()

    async def _receive_or_none(self, session: SessionCore) -> Any:
        try:
            return await self._receive()
        except Exception as error:  # each library has exceptions of its own for the one thing: it is over
            session._debug("WebSocket connection lost: %s", type(error).__name__)
            return None

    def _stop_waiting_for_a_message(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _listen_last(self) -> None:
        # Code may have blocked the loop, and the message waits to be read.
        self._silence = self._loop.call_later(LAST_LOOK_S, self._say_too_silent)

    def _say_too_silent(self) -> None:
        self._silence = None
        self.close(close_codes.POLICY, "no message came")
        if self._session is not None:
            self._session.connection_lost()

    # --- writing ---

    def _deliver(self, messages: list[str], size_bytes: int) -> None:
        self._messages.extend(messages)
        self._unsent_bytes += size_bytes
        if not self._outbox.writable:
            self._beyond_bytes += size_bytes
            if self._beyond_bytes > BEYOND_MARKS * self._settings.write_high_water_bytes and self._timer is not None:
                self._stop_timer()
                self._loop.call_soon(self._write_timed_out)  # a turn that ends may be writing
        if self._unsent_bytes > self._settings.write_high_water_bytes and self._outbox.writable:
            self._outbox.pause()
            self._timer = self._loop.call_later(self._settings.write_timeout_s, self._look_last)
        self._start_writer()

    def _start_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._messages:
                message = self._messages.popleft()
                await self._send(message)
                self._unsent_bytes -= len(message) if message.isascii() else len(message.encode())
                if not self._outbox.writable and self._unsent_bytes <= self._settings.write_high_water_bytes // 4:
                    self._stop_timer()
                    self._beyond_bytes = 0
                    self._outbox.resume()
            if self._close_with is not None:
                await within(self._close(*self._close_with), self._settings.close_timeout_s)
        except Exception as error:
            if not isinstance(error, TimeoutError) and self._session is not None:
                self._session._debug("sending failed: %s", type(error).__name__)
            self._lose()

    def _lose(self) -> None:
        self._messages.clear()
        self._shut()
        if self._session is not None:
            self._session.connection_lost()

    def _shut(self) -> None:
        self._stop_timer()
        self._outbox.shut()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_last(self) -> None:
        # Code may have blocked the loop, and the peer has read meanwhile.
        self._timer = self._loop.call_later(LAST_LOOK_S, self._write_timed_out)

    def _write_timed_out(self) -> None:
        self._timer = None
        if self._session is not None:
            self._session.write_timed_out()
        self.abort()

    # --- ending ---

    def finish(self) -> None:
        """Send what was put so far and nothing more; the WebSocket is the application's to close."""
        if not self._outbox.closed:
            self._outbox.flush()
            self._is_left = True
            self._shut()

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket behind what was sent so far."""
        if not self._outbox.closed or (self._is_left and self._ws is not None):
            self._is_left = False
            self._outbox.flush()  # text put before the close still goes out
            self._close_with = (code, reason)
            self._shut()
            self._start_writer()

    def abort(self) -> None:
        """Give up what is unsent and close."""
        self._messages.clear()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._close_with = (close_codes.INTERNAL_ERROR, "")
        self._shut()
        self._start_writer()

    async def wait_closed(self) -> None:
        """Stop reading, and wait until what was to be sent is sent, a close of ours included, within bounds."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader], timeout=self._settings.close_timeout_s)
        if self._writer is not None and not self._writer.done():
            _, late = await asyncio.wait([self._writer], timeout=2 * self._settings.close_timeout_s)
            for task in late:
                task.cancel()
        self._reader = None
        if self._is_left:
            self._ws = None  # a WebSocket that the application drops without closing it is noticed
