"""The public session: `SpeechEngineSession`, on top of `SessionCore`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from se_server.auth import AUTHORIZATION_HEADER
from se_server.conversation.adapter import Adapter
from se_server.conversation.adapters import adapt
from se_server.conversation.core import SessionCore, Transport
from se_server.conversation.ending import log_end
from se_server.conversation.events import EventEmitter
from se_server.conversation.handlers import NO_HANDLERS, Handlers
from se_server.conversation.jobs import current_turn
from se_server.conversation.served import ServedWebSocket
from se_server.conversation.settings import DEFAULT_SETTINGS, SessionSettings
from se_server.options import truth
from se_server.protocol.turn import Turn
from se_server.types import CLOSE, DISCONNECTED, Counters, EventName, Headers, Request, Stats

if TYPE_CHECKING:
    from se_server.conversation.events import H

BY_HANDLER = "closed by the handler"


class SpeechEngineSession(EventEmitter, SessionCore):
    """One WebSocket connection of the Speech Engine API, which is one conversation.

    Register handlers with `on`, then `await run()`. A new transcript cancels the handler of the one before.

    Args:
        ws: an accepted WebSocket: of `websockets`, Starlette or FastAPI, aiohttp, or any object with the coroutines
            `recv`, `send` and `close`.
        debug: print what happens, in lines that start with `[SpeechEngine]`.
        **options: times and limits of the conversation, as `se-server` knows them: `ping_timeout_s=10`.

    Attributes:
        conversation_id: the id the API gave; None before `init`.

    Raises:
        UnsupportedWebSocket: `ws` is none of these.
        TypeError: there is no such option.
        ConfigError: (a `ValueError`) an option's value is not valid.
    """

    if TYPE_CHECKING:
        # Type checkers accept attributes of the program's own, and overrides with the published SDK's signatures; they
        # report events that do not exist.

        conversation_id: str | None
        """The id that the API gave; None before `init`."""

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

        def __call__(self, handler: H) -> H:
            """Type the decorator `@session.on("init")`: the result of `on` is a session, or with one argument it."""
            raise NotImplementedError

        def on(self, event: EventName, *handler: Any, **options: Any) -> SpeechEngineSession:
            """Register `handler` for `event` and return the session; without a handler, act as a decorator.

            Raises:
                ValueError: `event` is no event's name.
                TypeError: `handler` cannot be called.
                WrongThread: called from a thread other than the session's.
            """
            raise NotImplementedError

        def once(self, event: EventName, *handler: Any, **options: Any) -> SpeechEngineSession:
            """Like `on`, but the handler runs once; it runs after the permanent ones."""
            raise NotImplementedError

        def off(self, event: EventName, *handler: Any, **options: Any) -> SpeechEngineSession:
            """Remove a handler registered with `on` or `once`, if it is there, and return the session."""
            raise NotImplementedError

        async def send_response(self, response: Any, *final: Any, **options: Any) -> Any:
            """Send an answer of the turn, to be spoken: `await session.send_response(response, final=True)`.

            Args:
                response: the whole text, or a stream of texts or LLM events, which is closed in the end.
                final: whether the answer is complete; with False the next `send_response` continues it.

            Returns:
                False when the turn was superseded, so that nobody will hear the answer; else True. Outside a turn it
                warns, sends nothing and returns False.

            Raises:
                SessionClosed: the session is closed.
                WrongThread: called from a thread other than the session's.
            """

    else:
        conversation_id = property(
            SessionCore.conversation_id.__get__, doc="The id that the API gave; None before `init`."
        )
        send_response = SessionCore.send_response
        send_response.__qualname__ = "SpeechEngineSession.send_response"

    def __init__(self, ws: object, *, debug: bool = False, **options: Any) -> None:
        settings = SessionSettings.of({"debug": truth(debug), **options}) if debug or options else DEFAULT_SETTINGS
        if isinstance(ws, ServedWebSocket):
            self._wrap(ws, NO_HANDLERS, settings if debug or options else ws.settings, ws.stats)
        else:
            self._wrap(ws, NO_HANDLERS, settings, Counters())

    @classmethod
    def _of(cls, ws: object, callbacks: Handlers, settings: SessionSettings, stats: Stats) -> SpeechEngineSession:
        """Make the session of another library's WebSocket, for a server."""
        if isinstance(ws, ServedWebSocket):  # in a worker the command line may differ from the server's own options
            settings, stats = ws.settings, ws.stats
        session = cls.__new__(cls)
        session._wrap(ws, callbacks, settings, stats)
        return session

    def _wrap(self, ws: object, callbacks: Handlers, settings: SessionSettings, stats: Stats) -> None:
        if isinstance(ws, ServedWebSocket):  # of our own server
            self._set_up(ws._connection, ws._request, callbacks, settings, stats, asyncio.get_running_loop())
            return
        adapter = adapt(ws, settings)
        loop = running_loop()
        if loop is not None:
            adapter.bind(loop)
        request = adapter.request
        # The program that holds the WebSocket has verified the request.
        request = replace(request, headers=request.headers.without(AUTHORIZATION_HEADER))
        self._set_up(adapter, request, callbacks, settings, stats, loop)
        adapter.attach(self)

    @classmethod
    def _over(
        cls, transport: Transport, request: Request, callbacks: Handlers, settings: SessionSettings, stats: Stats
    ) -> SpeechEngineSession:
        """Make the session of a connection that pushes what it reads."""
        session = cls.__new__(cls)
        session._set_up(transport, request, callbacks, settings, stats, asyncio.get_running_loop())
        return session

    # --- what it is ---

    @property
    def headers(self) -> Headers:
        """The headers of the upgrade request, without the API's token; names match in any case."""
        return self._request.headers

    @property
    def path(self) -> str:
        """The path of the upgrade request, without its query."""
        return self._request.path

    @property
    def path_params(self) -> Mapping[str, str]:
        """The parameters of the route's path, decoded: with `/ws/{tenant}` and `/ws/acme`, `{"tenant": "acme"}`."""
        return self._request.path_params or {}

    @property
    def query(self) -> str:
        """The query of the upgrade request, as sent, without the `?`."""
        return self._request.query

    @property
    def remote(self) -> str:
        """The client's address; empty when unknown, also where a proxy does not name its client."""
        return self._request.remote

    @property
    def turn(self) -> Turn | None:
        """The turn of the handler that asks; elsewhere the turn under way, or None."""
        turn = current_turn.get()
        return turn if turn is not None and turn.owner is self else self._ledger.current

    def __repr__(self) -> str:
        return f"<SpeechEngineSession {self.conversation_id} {'open' if self.is_open else 'closed'}>"

    # --- the life of the connection ---

    async def run(self) -> None:
        """Run until the conversation has ended and its last handler is done.

        The WebSocket is the application's again when this returns: it may close it with a code of its own.
        A second `run` waits for the same end, but not for the WebSocket; after that end it returns at once.

        Raises:
            WrongThread: the session runs on the loop of another thread.
        """
        self._join_loop(asyncio.get_running_loop())
        self._check_thread("run")
        if not self._transport.start_reading():
            await self._lane.wait_ended()
            return
        self._lane.use_context()
        try:
            await self._lane.wait_ended()
        except asyncio.CancelledError:
            self._transport.finish()
            self._end(DISCONNECTED)
            await self._lane.wait_ended()
            raise
        finally:
            await self._transport.wait_closed()
            log_end(self)

    def close(self) -> None:
        """Close the session and its WebSocket with code 1000; the running handler is cancelled. Any number of times.

        Raises:
            WrongThread: called from a thread other than the session's.
        """
        self._check_thread("close")
        loop = running_loop()
        if loop is not None:
            self._join_loop(loop)
        if self._has_loop():
            self._shutdown(1000, "")
        else:
            self._end(CLOSE, BY_HANDLER)

    def _has_loop(self) -> bool:
        return self._lane is not None

    def _join_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to `loop`, if the session was made where no loop or another one ran, and has not begun there."""
        transport = self._transport
        if loop is self._loop or not isinstance(transport, Adapter) or transport.has_read:
            return
        if not self.is_open and self._has_loop():
            return
        transport.bind(loop)
        self._bind(loop)
        if not self.is_open:
            transport.close(1000, "")
            self._lane.end(CLOSE)

    def _shutdown(self, code: int, reason: str) -> None:
        """Close the session from our side."""
        self._transport.close(code, reason)
        self._end(CLOSE, BY_HANDLER)

    def _abort(self) -> None:
        """Give up what is unsent and drop the connection."""
        self._transport.abort()

    def _fd(self) -> int:
        """Return the descriptor of the socket; -1 over another library's WebSocket."""
        return self._transport.fd


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
