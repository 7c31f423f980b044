"""`SpeechEngineResource`: one Speech Engine, as the REST clients return it, and its server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier
from se_server.errors import AuthenticationError, ConfigError
from se_server.sdk.models import EngineConfig
from se_server.sdk.requests import API_KEY_HEADER

if TYPE_CHECKING:
    from typing_extensions import Unpack  # type checkers know it without the package

    from se_server.conversation.session import SpeechEngineSession
    from se_server.sdk.keywords import ServeKeywords
    from se_server.sdk.server import SpeechEngineServer

_AUTHORIZATION = AUTHORIZATION_HEADER.lower()


class HasHeaders(Protocol):
    """Gives a resource its API key: `get_headers()["xi-api-key"]`."""

    def get_headers(self) -> Mapping[str, str]: ...


class SpeechEngineResource:
    """One Speech Engine: serves it, verifies that requests come from the API, wraps WebSockets of your own server.

    Args:
        engine_id: its id.
        client_wrapper: gives the API key, at each use; None means that there is no key.
        response: its settings, as the API returned them.

    Attributes:
        engine_id: its id.
        config: its settings; None when the resource was made without asking the API.
        server: the server that `serve` runs, the latest if there are several, for its `port`, `wait_ready()` and
            `stop()`; None while nothing is served.
    """

    def __init__(
        self, engine_id: str, client_wrapper: HasHeaders | None = None, response: EngineConfig | None = None
    ) -> None:
        self.engine_id = engine_id
        self.config = response
        self.server: SpeechEngineServer | None = None
        self._client_wrapper = client_wrapper
        self._verifier: tuple[str, TokenVerifier] | None = None

    def verify_request(self, headers: Any) -> bool:
        """Return whether an upgrade request comes from the Speech Engine API.

        Only needed when your own server accepts the WebSocket; `serve` verifies by itself.

        Args:
            headers: the request's headers, names in any case; of a list of values the first counts.

        Returns:
            False for anything but a valid token; also when there is no API key to check with, or a blank one.
        """
        key = self._api_key()
        if key is None:
            return False
        if self._verifier is None or self._verifier[0] != key:
            try:
                # One verifier per key: it holds the cache of tokens that were found valid.
                self._verifier = (key, TokenVerifier(key))
            except ConfigError:
                return False  # a blank key verifies nothing
        try:
            self._verifier[1].verify(_authorization(headers))
        except AuthenticationError:
            return False
        return True

    if TYPE_CHECKING:
        # Overrides with the published SDK's signature are accepted.
        def create_session(self, ws: Any, *args: Any, **options: Any) -> SpeechEngineSession:
            """Wrap an accepted WebSocket of your own server; `await session.run()` then holds the conversation.

            Args:
                ws: a connection of `websockets`, Starlette, FastAPI or aiohttp, or any `WebSocketLike`.
                debug: print what happens.
                **options: times and limits of the conversation, as `se-server` knows them: `ping_timeout_s=10`.

            Raises:
                UnsupportedWebSocket: `ws` is none of these.
                TypeError: there is no such option.
                ConfigError: (a `ValueError`) an option's value is not valid.
            """
            raise NotImplementedError

    else:

        def create_session(self, ws: Any, *, debug: bool = False, **options: Any) -> SpeechEngineSession:
            """Wrap an accepted WebSocket of your own server; `await session.run()` then holds the conversation.

            Args:
                ws: a connection of `websockets`, Starlette, FastAPI or aiohttp, or any `WebSocketLike`.
                debug: print what happens.
                **options: times and limits of the conversation, as `se-server` knows them: `ping_timeout_s=10`.

            Raises:
                UnsupportedWebSocket: `ws` is none of these.
                TypeError: there is no such option.
                ConfigError: (a `ValueError`) an option's value is not valid.
            """
            # Imported here, as in serve: scripts that only manage engines load no WebSocket stack.
            from se_server.conversation.session import SpeechEngineSession

            return SpeechEngineSession(ws, debug=debug, **options)

    async def serve(
        self,
        *,
        port: int = None,  # type: ignore[assignment]  # noqa: RUF013  an override may have the published `int`
        path: str | None = None,
        debug: bool = False,
        disable_auth: bool = False,
        **handlers_and_options: Unpack[ServeKeywords],
    ) -> None:
        """Serve conversations in this process until cancellation, `server.stop()`, SIGINT or SIGTERM.

        Args:
            port: the port to listen on; 0 takes a free one, see `server.port`. None is 3001, or with `uds=` no port.
            path: accept this path only; None accepts all.
            debug: print what happens.
            disable_auth: accept requests without a token. Anybody who reaches the port can then spend your money.
            **handlers_and_options: `on_init`, `on_transcript`, `on_close`, `on_disconnect`, `on_error`,
                `on_interrupt`, each optional; and what else `SpeechEngineServer` takes, such as `host="127.0.0.1"`,
                `ssl=`, `uds="/run/agent.sock"`, `max_message_bytes="64KiB"`.

        Raises:
            KeyMissing: (a `ConfigError`) authentication is on, and there is no API key.
            ConfigError: the address cannot be bound, the path can never match, or an option's value is not valid.
            TypeError: a handler or option of an unknown name, a handler that is not a function, or `ssl` is not an
                `ssl.SSLContext`.
        """
        from se_server.sdk.server import SpeechEngineServer

        server = self.server = SpeechEngineServer(
            port=port,
            path=path,
            api_key=self._api_key(),
            debug=debug,
            disable_auth=disable_auth,
            **handlers_and_options,
        )
        try:
            await server.serve()
        finally:
            if self.server is server:
                self.server = None

    def _api_key(self) -> str | None:
        if self._client_wrapper is None:
            return None
        return self._client_wrapper.get_headers().get(API_KEY_HEADER) or None

    def __repr__(self) -> str:
        return f"<SpeechEngineResource {self.engine_id}>"


def _authorization(headers: Mapping[Any, Any]) -> str | None:
    for name in headers:
        if _text(name).lower() == _AUTHORIZATION:
            try:
                value = headers[name]
            except LookupError:
                # `websockets` raises for a header that came twice: which of the two would we have verified?
                return None
            if isinstance(value, (list, tuple)):
                value = value[0] if value else ""
            return _text(value)
    return None


def _text(value: Any) -> str:
    # ASGI scopes hold bytes.
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
