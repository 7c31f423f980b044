"""The REST clients: `ElevenLabs`, and `AsyncElevenLabs` for event loops, named as in the published SDK."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from se_server.sdk import calls
from se_server.sdk.models import SignedUrl, WebRTCToken
from se_server.sdk.requests import DEFAULT_TIMEOUT_S, ClientWrapper, RequestOptions
from se_server.sdk.speech_engines import AsyncSpeechEngineClient, SpeechEngineClient

if TYPE_CHECKING:
    import httpx

    from se_server.sdk.transport import AsyncTransport, SyncTransport


class ConversationsClient:
    """Opens conversations for browsers, which must not see the API key."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def get_webrtc_token(
        self,
        *,
        agent_id: str,
        participant_name: str | None = None,
        branch_id: str | None = None,
        version_id: str | None = None,
        environment: str | None = None,
        debug_events_request: bool | None = None,
        request_options: RequestOptions | None = None,
    ) -> WebRTCToken:
        """Make a token with which a browser opens one conversation over WebRTC.

        Args:
            agent_id: the id of a Speech Engine (`seng_...`) or an agent.
            participant_name: the caller's name; by default the API's user id.
            branch_id, version_id, environment, debug_events_request: passed to the API.
            request_options: see `RequestOptions`.

        Raises:
            ApiError, ApiConnectionError: as every call.
        """
        call = calls.webrtc_token(
            agent_id,
            participant_name=participant_name,
            branch_id=branch_id,
            version_id=version_id,
            environment=environment,
            debug_events_request=debug_events_request,
        )
        return WebRTCToken(self._transport.send(call, request_options))

    def get_signed_url(
        self,
        *,
        agent_id: str,
        include_conversation_id: bool | None = None,
        branch_id: str | None = None,
        version_id: str | None = None,
        environment: str | None = None,
        debug_events_request: bool | None = None,
        request_options: RequestOptions | None = None,
    ) -> SignedUrl:
        """Make a URL with which a browser opens one conversation over a WebSocket.

        Args:
            agent_id: the id of a Speech Engine (`seng_...`) or an agent.
            include_conversation_id: also return the conversation's id; then the URL works once only.
            branch_id, version_id, environment, debug_events_request: passed to the API.
            request_options: see `RequestOptions`.

        Raises:
            ApiError, ApiConnectionError: as every call.
        """
        call = calls.signed_url(
            agent_id,
            include_conversation_id=include_conversation_id,
            branch_id=branch_id,
            version_id=version_id,
            environment=environment,
            debug_events_request=debug_events_request,
        )
        return SignedUrl(self._transport.send(call, request_options))


class AsyncConversationsClient:
    """Opens conversations for browsers, which must not see the API key."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get_webrtc_token(
        self,
        *,
        agent_id: str,
        participant_name: str | None = None,
        branch_id: str | None = None,
        version_id: str | None = None,
        environment: str | None = None,
        debug_events_request: bool | None = None,
        request_options: RequestOptions | None = None,
    ) -> WebRTCToken:
        """Make a token with which a browser opens one conversation over WebRTC: see `ConversationsClient`."""
        call = calls.webrtc_token(
            agent_id,
            participant_name=participant_name,
            branch_id=branch_id,
            version_id=version_id,
            environment=environment,
            debug_events_request=debug_events_request,
        )
        return WebRTCToken(await self._transport.send(call, request_options))

    async def get_signed_url(
        self,
        *,
        agent_id: str,
        include_conversation_id: bool | None = None,
        branch_id: str | None = None,
        version_id: str | None = None,
        environment: str | None = None,
        debug_events_request: bool | None = None,
        request_options: RequestOptions | None = None,
    ) -> SignedUrl:
        """Make a URL with which a browser opens one conversation over a WebSocket: see `ConversationsClient`."""
        call = calls.signed_url(
            agent_id,
            include_conversation_id=include_conversation_id,
            branch_id=branch_id,
            version_id=version_id,
            environment=environment,
            debug_events_request=debug_events_request,
        )
        return SignedUrl(await self._transport.send(call, request_options))


class ConversationalAIClient:
    """The part of the published client's `conversational_ai` that Speech Engine needs."""

    def __init__(self, conversations: ConversationsClient) -> None:
        self.conversations = conversations


class AsyncConversationalAIClient:
    """The part of the published client's `conversational_ai` that Speech Engine needs."""

    def __init__(self, conversations: AsyncConversationsClient) -> None:
        self.conversations = conversations


class ElevenLabs:
    """The REST API of Speech Engine, for code without an event loop.

    Args:
        api_key: the API key; by default the environment variable ELEVENLABS_API_KEY, read at each call.
        base_url: the API's address, `https://api.elevenlabs.io` by default; with data residency for example
            `https://api.eu.residency.elevenlabs.io`.
        timeout: seconds to wait for a connection, and for each further sign of life of an answer. None is 240,
            with an `httpx_client` that one's own setting.
        httpx_client: an `httpx.Client` to use, for proxies or certificates; it stays yours to close.

    Raises:
        ConfigError: a key that no HTTP header can carry, or a `base_url` that is no address. A missing key is told
            by the first call.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        httpx_client: httpx.Client | None = None,
    ) -> None:
        # Imported here because it brings httpx, which a worker that makes no client should not pay for.
        from se_server.sdk.transport import SyncTransport

        self._client_wrapper = ClientWrapper(api_key, base_url, _timeout_s(timeout, httpx_client is not None))
        self._transport = SyncTransport(self._client_wrapper, httpx_client)
        self.speech_engine = SpeechEngineClient(self._transport)
        self.conversational_ai = ConversationalAIClient(ConversationsClient(self._transport))

    def close(self) -> None:
        """Free what the client holds, except an `httpx_client` it was given."""
        self._transport.close()

    def __enter__(self) -> ElevenLabs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client_wrapper.host}>"


class AsyncElevenLabs:
    """The REST API of Speech Engine, for asyncio.

    Args:
        api_key: the API key; by default the environment variable ELEVENLABS_API_KEY, read at each call.
        base_url: the API's address, `https://api.elevenlabs.io` by default; with data residency for example
            `https://api.eu.residency.elevenlabs.io`.
        timeout: seconds to wait for a connection, and for each further sign of life of an answer. None is 240,
            with an `httpx_client` that one's own setting.
        httpx_client: an `httpx.AsyncClient` to use, for proxies or certificates; it stays yours to close.

    Raises:
        ConfigError: a key that no HTTP header can carry, or a `base_url` that is no address. A missing key is told
            by the first call.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        httpx_client: httpx.AsyncClient | None = None,
    ) -> None:
        # Imported here because it brings httpx, which a worker that makes no client should not pay for.
        from se_server.sdk.transport import AsyncTransport

        self._client_wrapper = ClientWrapper(api_key, base_url, _timeout_s(timeout, httpx_client is not None))
        self._transport = AsyncTransport(self._client_wrapper, httpx_client)
        self.speech_engine = AsyncSpeechEngineClient(self._transport)
        self.conversational_ai = AsyncConversationalAIClient(AsyncConversationsClient(self._transport))

    async def aclose(self) -> None:
        """Free what the client holds, except an `httpx_client` it was given."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncElevenLabs:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client_wrapper.host}>"


def _timeout_s(timeout: float | None, own_http_client: bool) -> float | None:
    if timeout is None and not own_http_client:
        return DEFAULT_TIMEOUT_S
    return timeout
