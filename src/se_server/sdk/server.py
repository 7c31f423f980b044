"""`SpeechEngineServer`: the server inside one process; `se-server` runs the same door on all cores."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from ssl import CERT_REQUIRED, SSLContext
from typing import TYPE_CHECKING, Any, cast

from se_server.auth import TokenVerifier
from se_server.conversation.handlers import HANDLER_NAMES, Handlers
from se_server.conversation.notes import debug
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SESSION_OPTIONS, SessionSettings
from se_server.errors import KeyMissing
from se_server.forks import is_copied, keep_from_children
from se_server.options import options_of, truth
from se_server.sdk.captured import CapturedServe
from se_server.server.config.options import BY_NAME, read_keywords
from se_server.server.config.scripts import captor
from se_server.server.door.access import Access
from se_server.spelling import nearest
from se_server.telemetry.guarded import guarded_logger
from se_server.types import Counters

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry
    from typing_extensions import Unpack  # type checkers know it without the package

    from se_server.sdk.keywords import ServerKeywords
    from se_server.server.door.door import Door

log = guarded_logger("se_server.server")

# Options of `se-server` that need no parameter of their own here.
OPTIONS = {**options_of(Access), **SESSION_OPTIONS}
KEYWORDS = ("port", "path", "api_key", "disable_auth", "host", "drain_timeout_s", "ssl", "uds", *OPTIONS)

NO_AUTH_WARNING = (
    "authentication is disabled: anyone who can reach the port can hold conversations at your LLM's expense. "
    "Let in only requests with a secret header (require_header=), or from known addresses (allow_ips=)."
)


class _Stop:
    """The requests of `stop()` to one `serve()`."""

    def __init__(self) -> None:
        self.drain_asked, self.end_asked = asyncio.Event(), asyncio.Event()

    def ask(self) -> None:
        # Two events, so that two calls within one step of the loop count as two.
        if self.drain_asked.is_set():
            self.end_asked.set()
        self.drain_asked.set()


class SpeechEngineServer:
    """A WebSocket server for Speech Engine conversations, in this process.

    Args:
        port: the port to listen on; 0 takes a free one, see `port`. None is 3001, or with `uds` alone no port.
        path: accept conversations on this path only; None accepts all.
        api_key: the key whose tokens are accepted, or several while one replaces another; else the environment
            variable ELEVENLABS_API_KEY.
        debug: print what happens, in lines that start with `[SpeechEngine]`.
        disable_auth: accept conversations without a token. Insecure.
        host: the address to listen on; None means all interfaces.
        uds: a Unix socket to listen on, mode 0600; and on a port only if `host` or `port` is given.
        allow_ips: addresses and blocks from which conversations are accepted; None accepts all.
        require_header: `NAME=VALUE`, a header that the requests of conversations must carry.
        trusted_proxies: addresses and blocks of the proxies that are believed about their clients' addresses; `unix`
            for those on the Unix socket.
        proxy_protocol: expect the PROXY protocol, from the trusted proxies and nobody else.
        drain_timeout_s: seconds that running conversations may go on after `stop()`, SIGINT or SIGTERM.
        ssl: the context of a server that speaks TLS; None speaks none. Run by `se-server`, use its `--certfile`.
        **handlers_and_options: `on_init`, `on_transcript`, `on_close`, `on_disconnect`, `on_error`, `on_interrupt`;
            and times and limits of conversations, as `se-server` knows them: `max_message_bytes="64KiB"`,
            `ping_timeout_s=10`.

    Attributes:
        options: the options that differ from their defaults, for `se-server` to run it; by the names of the command's
            options, so that `ssl` is called `certfile`.
        settings: times and limits of its conversations.

    Raises:
        TypeError: an unknown name, a handler that is not a function, or `ssl` is not an `ssl.SSLContext`.
        ConfigError: (a `ValueError`) an option's value is not valid.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        path: str | None = None,
        api_key: str | Sequence[str] | None = None,
        debug: bool = False,
        disable_auth: bool = False,
        host: str | None = None,
        drain_timeout_s: float = 30.0,
        ssl: SSLContext | None = None,
        uds: str | None = None,
        allow_ips: str | Sequence[str] | None = None,
        require_header: str | None = None,
        trusted_proxies: str | Sequence[str] | None = None,
        proxy_protocol: bool = False,
        **handlers_and_options: Unpack[ServerKeywords],
    ) -> None:
        given = cast("dict[str, Any]", handlers_and_options)
        if ssl is not None and not isinstance(ssl, SSLContext):
            raise TypeError(f"ssl={type(ssl).__name__} is not an ssl.SSLContext: make one with ssl.PROTOCOL_TLS_SERVER")
        for name in given:
            if name not in HANDLER_NAMES and name not in OPTIONS:
                known = (*HANDLER_NAMES, *KEYWORDS)
                raise TypeError(f"SpeechEngineServer has neither handler nor option {name!r}{nearest(name, known)}")
        access = {
            "allow_ips": allow_ips,
            "require_header": require_header,
            "trusted_proxies": trusted_proxies,
            "proxy_protocol": proxy_protocol,
            **{name: value for name, value in given.items() if name in options_of(Access)},
        }
        session = {name: value for name, value in given.items() if name in SESSION_OPTIONS}
        self.settings = SessionSettings.of({"debug": truth(debug), **session})
        self.handlers = Handlers.of({name: given.get(name) for name in HANDLER_NAMES})
        self.stats = Counters()
        self._counts_since_s = time.time()
        values = read_keywords(
            {
                "port": port,
                "disable_auth": disable_auth,
                "host": host,
                "drain_timeout_s": drain_timeout_s,
                "uds": uds,
                **access,
            }
        )
        options = {"path": path, **values, **{name: getattr(self.settings, name) for name in SESSION_OPTIONS}}
        self.options = {name: value for name, value in options.items() if value != BY_NAME[name].default}
        if ssl is not None:
            self.options["certfile"] = ssl
        self._access = Access(**{name: values[name] for name in access})
        self._wants_port = uds is None or host is not None or port is not None
        self._port: int = values["port"] if self._wants_port else 0
        self._uds: str | None = values["uds"]
        self._path = path
        self._api_key = api_key
        self._disable_auth: bool = values["disable_auth"]
        self._host: str | None = values["host"]
        self._drain_timeout_s: float = values["drain_timeout_s"]
        self._ssl = ssl
        self._running: _Stop | None = None
        self._beginning: _Stop | None = None  # of a `serve()` that was called and not yet awaited
        self._accepting = False
        # Futures, because an Event belongs to the first loop that waits for it; this object may see several.
        self._waiting_ready: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<SpeechEngineServer port={self._port} path={self._path!r}>"

    @property
    def port(self) -> int:
        """The port: while it serves, the one it is bound to; 0 if it listens on a Unix socket alone."""
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
        return SpeechEngineSession._of(ws, self.handlers, self.settings, self.stats)

    @property
    def own_connect(self) -> Callable[[Any], SpeechEngineSession] | None:
        """The `handle_connection` of a subclass or of this object, which `serve` calls; None without one."""
        connect = self.handle_connection
        is_ours = getattr(connect, "__func__", None) is SpeechEngineServer.handle_connection
        return None if is_ours else connect

    def serve(self) -> Coroutine[Any, Any, None]:
        """Serve until `stop()`, SIGINT, SIGTERM or cancellation; then return, ready to serve again.

        After `stop()` or a signal the running conversations may go on for the drain timeout; a second one ends them at
        once, as cancellation does. A signal that the program handles itself is left to it.

        Raises:
            KeyMissing: (a `ConfigError`) authentication is on, and there is no API key.
            ConfigError: the address cannot be bound, or the path can never match.
            RuntimeError: it serves already, or `se-server` imports the program right now.
        """
        self._beginning = _Stop()
        return self._serve(self._beginning)

    async def _serve(self, stop: _Stop) -> None:
        if self._beginning is stop:
            self._beginning = None
        if self._running is not None:
            raise RuntimeError("this SpeechEngineServer serves already: await its stop() first, or make another one")
        serve = captor()
        if serve is not None:
            configured, self._running = self._port, stop
            try:
                await serve(CapturedServe(self, self._open_at, stop.drain_asked))
            finally:
                self._accepting, self._running, self._port = False, None, configured
            return
        # A program that is imported to be served by `se-server`, or that has a server of its own, needs none of these.
        from se_server.sdk.signals import stop_on_signals
        from se_server.server.config.loading import refuse_to_serve
        from se_server.server.door.door import Door
        from se_server.server.door.place import Place
        from se_server.server.door.route_table import DoorRoute, RouteTable
        from se_server.server.listen.sockets import bind
        from se_server.server.listen.uds import UnixListenSocket
        from se_server.server.shared.lifecycle import Lifecycle

        if not self.handlers.may_answer() and self.own_connect is None:
            log.warning("this server has nothing that answers: pass on_transcript=, a function (transcript, session)")
        routes = RouteTable([DoorRoute(self._path, self._verifier(), self.handlers, self.settings, self.own_connect)])
        refuse_to_serve()
        configured = self._port
        sockets = bind(self._host, self._port) if self._wants_port else []
        unix = None
        self._running = stop
        try:
            if self._uds is not None:
                unix = UnixListenSocket(self._uds)
            door = Door(
                [Place([*sockets, *([unix.socket] if unix else [])], routes, self._access, self._ssl)],
                self.stats,
                lifecycle=Lifecycle(drain_turn_grace_s=0.0),
            )
            if sockets:
                self._port = sockets[0].getsockname()[1]
            with keep_from_children(door.descriptors, asyncio.get_running_loop()), stop_on_signals(self._stop):
                await self._serve_at(door, stop)
        finally:
            for socket in sockets:
                socket.close()
            if unix is not None:
                unix.socket.close()
                if not is_copied(asyncio.get_running_loop()):  # a child has not made the file
                    unix.remove()
            self._running = None
            self._port = configured

    async def _serve_at(self, door: Door, stop: _Stop) -> None:
        door.open()
        places = [f"port {self._port}"] if self._wants_port else []
        places += [] if self._uds is None else [f"unix:{self._uds}"]
        self._tell(logging.INFO, "speech engine server listening on %s", " and ".join(places))
        self._set_ready()
        drain_timeout_s = self._drain_timeout_s
        try:
            await stop.drain_asked.wait()
        except asyncio.CancelledError:
            drain_timeout_s = 0.0
            raise
        finally:
            self._accepting = False
            self._tell_of_stopping(len(door.sessions), drain_timeout_s)
            drain = asyncio.ensure_future(door.drain(drain_timeout_s))
            hurry = asyncio.ensure_future(stop.end_asked.wait())
            try:
                await asyncio.wait([drain, hurry], return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurry.cancel()
                drain.cancel()
                await door.close()

    async def stop(self) -> None:
        """Take no new conversations and end `serve()` when the running ones have ended, or after the drain timeout.

        A second call ends them at once. It also stops a `serve()` that was called and has not begun, such as that of a
        new task; without either nothing happens.
        """
        self._stop()

    def _stop(self) -> None:
        stop = self._running or self._beginning
        if stop is not None:
            stop.ask()

    async def wait_ready(self) -> None:
        """Wait until `serve()` accepts connections; `port` is then the one it is bound to."""
        if self._accepting:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting_ready.add(waiter)
        try:
            await waiter
        finally:
            self._waiting_ready.discard(waiter)

    def metrics(self) -> CollectorRegistry:
        """Return the metrics of this server, as a registry of `prometheus_client`.

        They are read when they are asked for. One line mounts them in an application, or serves them on a port of
        their own: `app.mount("/metrics", prometheus_client.make_asgi_app(server.metrics()))`,
        `prometheus_client.start_http_server(9100, registry=server.metrics())`.
        """
        from se_server.sdk.metrics import metrics_of  # here: others do without prometheus_client

        return metrics_of(self.stats, self._counts_since_s, self._is_draining)

    def _is_draining(self) -> bool:
        return self._running is not None and self._running.drain_asked.is_set()

    def _open_at(self, port: int) -> None:
        self._port = port
        self._set_ready()

    def _set_ready(self) -> None:
        self._accepting = True
        for waiter in self._waiting_ready:
            if not waiter.done():
                waiter.set_result(None)

    def _tell_of_stopping(self, conversations: int, drain_timeout_s: float) -> None:
        if conversations and drain_timeout_s:
            # A warning is shown even if logging is not set up, to the user who pressed Ctrl-C.
            text = "stopping: %d conversation(s) may go on for %g s; stop() or the signal once more ends them"
            self._tell(logging.WARNING, text, conversations, drain_timeout_s)
        else:
            self._tell(logging.INFO, "stopping: %d conversation(s) are ended", conversations)

    def _tell(self, level: int, text: str, *args: object) -> None:
        log.log(level, text, *args)
        if self.settings.debug:
            debug(text, *args)

    def _verifier(self) -> TokenVerifier | None:
        if self._disable_auth:
            mutual_tls = self._ssl is not None and self._ssl.verify_mode is CERT_REQUIRED
            if not (self._access.is_restricted or mutual_tls):
                warnings.warn(f"SpeechEngineServer: {NO_AUTH_WARNING}", UserWarning, stacklevel=3)
            return None
        # As in se-server, several keys with commas between them, while one replaces another.
        from_environment = os.environ.get("ELEVENLABS_API_KEY", "").split(",")
        key = self._api_key or [item for item in from_environment if item.strip()]
        if not key:
            raise KeyMissing(
                "SpeechEngineServer needs the API key that its engines were made with: pass api_key=, set "
                "ELEVENLABS_API_KEY, or pass disable_auth=True if nobody but ElevenLabs can reach the port"
            )
        return TokenVerifier(key)
