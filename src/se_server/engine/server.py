"""`SpeechEngineServer`: the server inside one process; `se-server` runs the same door on all cores."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from se_server.auth import TokenVerifier
from se_server.conversation.handlers import Handlers
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import ConfigError
from se_server.server.door import Door
from se_server.server.sockets import bind
from se_server.types import Counters, Handler

log = logging.getLogger("se_server.server")

NO_AUTH_WARNING = (
    "authentication is disabled: whoever reaches the port can hold conversations at your LLM's expense. "
    "Let only ElevenLabs' addresses through, or requests with a secret header."
)


class SpeechEngineServer:
    """A WebSocket server for Speech Engine conversations, in this process.

    Args:
        port: the port to listen on; 0 takes a free one, see `port`.
        path: accept conversations on this path only; None accepts all.
        api_key: the key whose tokens are accepted, or several while one replaces another; else the environment
            variable ELEVENLABS_API_KEY.
        debug: print what happens, in lines that start with `[SpeechEngine]`.
        disable_auth: accept conversations without a token. Insecure.
        host: the address to listen on; None means all interfaces.
        drain_timeout_s: how long running conversations may go on after `stop()`, SIGINT or SIGTERM.
        **handlers: `on_init`, `on_transcript`, `on_close`, `on_disconnect`, `on_error`.

    Raises:
        TypeError: an unknown handler's name, or a handler that is no function.
    """

    def __init__(
        self,
        *,
        port: int = 3001,
        path: str | None = None,
        api_key: str | Sequence[str] | None = None,
        debug: bool = False,
        disable_auth: bool = False,
        host: str | None = None,
        drain_timeout_s: float = 30.0,
        **handlers: Handler | None,
    ) -> None:
        self.handlers = Handlers.of(handlers)
        self.stats = Counters()
        self._port = port
        self._path = path
        self._api_key = api_key
        self._disable_auth = disable_auth
        self._host = host
        self._drain_timeout_s = drain_timeout_s
        self._settings = SessionSettings(debug=debug)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SpeechEngineServer port={self._port} path={self._path!r}>"

    @property
    def port(self) -> int:
        """The port: while it serves, the one it is bound to."""
        return self._port

    @property
    def path(self) -> str | None:
        """The only path that takes conversations; None for any."""
        return self._path

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The keys it was made with, for `se-server` to run it; those of the environment are not among them."""
        keys = self._api_key or ()
        return (keys,) if isinstance(keys, str) else tuple(keys)

    def handle_connection(self, ws: Any) -> SpeechEngineSession:
        """Wrap an accepted WebSocket of another server in a session with these handlers; await its `run()`.

        Raises:
            UnsupportedWebSocket: see `SpeechEngineSession`.
        """
        return SpeechEngineSession._of(ws, self.handlers, self._settings, self.stats)

    async def serve(self) -> None:
        """Serve until `stop()`, SIGINT, SIGTERM or cancellation; then running conversations may end.

        Raises:
            ConfigError: there is no API key, or the address cannot be bound.
        """
        verifier = self._verifier()
        sockets = bind(self._host, self._port)
        configured, self._port = self._port, sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        door = Door(
            sockets,
            handlers=self.handlers,
            verifier=verifier,
            path=self._path,
            settings=self._settings,
            stats=self.stats,
        )
        signals = self._catch_signals()
        drain_timeout_s = self._drain_timeout_s
        try:
            door.open()
            log.info("serving Speech Engine conversations on port %d", self._port)
            self._ready.set()
            await self._stopping.wait()
        except asyncio.CancelledError:
            drain_timeout_s = 0.0
            raise
        finally:
            self._stopping.clear()
            drain = asyncio.ensure_future(door.drain(drain_timeout_s))
            hurry = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait([drain, hurry], return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            drain.cancel()
            await door.close()
            for number in signals:
                self._loop.remove_signal_handler(number)
            for socket in sockets:
                socket.close()
            self._ready.clear()
            self._stopping = None
            self._port = configured

    async def stop(self) -> None:
        """Take no new conversations and end `serve()` when the running ones have ended, or after the drain timeout.

        A second call ends them at once.
        """
        self._stop()

    def _stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    async def wait_ready(self) -> None:
        """Wait until `serve()` accepts connections."""
        await self._ready.wait()

    def _verifier(self) -> TokenVerifier | None:
        if self._disable_auth:
            warnings.warn(f"SpeechEngineServer: {NO_AUTH_WARNING}", UserWarning, stacklevel=3)
            return None
        key = self._api_key or os.environ.get("ELEVENLABS_API_KEY")
        if not key:
            raise ConfigError(
                "SpeechEngineServer needs the API key that its engines were made with: pass api_key=, set "
                "ELEVENLABS_API_KEY, or pass disable_auth=True if nobody but ElevenLabs can reach the port"
            )
        return TokenVerifier(key)

    def _catch_signals(self) -> list[int]:
        """SIGINT and SIGTERM stop the server; only the main thread may say so."""
        if threading.current_thread() is not threading.main_thread():
            return []
        assert self._loop is not None
        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop)
            caught.append(int(number))
        return caught
