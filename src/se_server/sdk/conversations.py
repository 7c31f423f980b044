"""`client.conversational_ai.conversations`: tokens with which browsers open conversations, and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_server.sdk import calls
from se_server.sdk.models import Conversation, SignedUrl, WebRTCToken
from se_server.sdk.requests import RequestOptions

if TYPE_CHECKING:
    from se_server.sdk.transport import AsyncTransport, SyncTransport


class ConversationsClient:
    """Opens conversations for browsers, which must not see the API key, and fetches their records."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def get(
        self, conversation_id: str, *, format: str | None = None, request_options: RequestOptions | None = None
    ) -> Conversation:
        """Return the record of a conversation: its status, transcript, metadata and analysis.

        Args:
            conversation_id: its id, as `on_init` gives it.
            format: `json` by default; `opentelemetry` for a trace.
            request_options: see `RequestOptions`.

        Raises:
            NotFound: there is no such conversation.
            ApiError, ApiConnectionError: as every call.
        """
        call = calls.get_conversation(conversation_id, format=format)
        return Conversation(self._transport.send(call, request_options))

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
    """Opens conversations for browsers, which must not see the API key, and fetches their records."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(
        self, conversation_id: str, *, format: str | None = None, request_options: RequestOptions | None = None
    ) -> Conversation:
        """Return the record of a conversation: see `ConversationsClient`."""
        call = calls.get_conversation(conversation_id, format=format)
        return Conversation(await self._transport.send(call, request_options))

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
