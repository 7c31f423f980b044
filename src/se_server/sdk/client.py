"""The REST clients: `ElevenLabs`, and `AsyncElevenLabs` for event loops, named as in the published SDK."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from se_server.sdk.async_speech_engines import AsyncSpeechEngineClient
from se_server.sdk.conversations import (
    AsyncConversationalAIClient,
    AsyncConversationsClient,
    ConversationalAIClient,
    ConversationsClient,
)
from se_server.sdk.requests import DEFAULT_TIMEOUT_S, ClientWrapper
from se_server.sdk.speech_engines import SpeechEngineClient

if TYPE_CHECKING:
    import httpx


class ElevenLabs:
    """The REST API of Speech Engine, for code without an event loop.

    Args:
        api_key: the API key; by default the environment variable ELEVENLABS_API_KEY, read at each call.
        base_url: the API's address, `https://api.elevenlabs.io` by default; with data residency for example
            `https://api.eu.residency.elevenlabs.io`.
        timeout: seconds to wait for a connection, and for each further sign of life of an answer. None is 240,
            with an `httpx_client` that one's own setting.
        httpx_client: an `httpx.Client` to use, for proxies or certificates; it stays yours to close.

    Attributes:
        speech_engine: makes, finds, changes and deletes Speech Engines.
        conversational_ai: `conversations`: tokens for browsers, and records of conversations.
        agents: the same, by the name of the published SDK's version 3.

    Raises:
        ConfigError: a key that no HTTP header can carry, or a `base_url` that is not an address. A missing key is told
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
        self.conversational_ai = self.agents = ConversationalAIClient(ConversationsClient(self._transport))

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

    Attributes:
        speech_engine: makes, finds, changes and deletes Speech Engines.
        conversational_ai: `conversations`: tokens for browsers, and records of conversations.
        agents: the same, by the name of the published SDK's version 3.

    Raises:
        ConfigError: a key that no HTTP header can carry, or a `base_url` that is not an address. A missing key is told
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
        self.conversational_ai = self.agents = AsyncConversationalAIClient(AsyncConversationsClient(self._transport))

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
