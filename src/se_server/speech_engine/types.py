"""`elevenlabs.speech_engine.types`: the names of `session_types`, and the two unions of version 3.

The unions describe the JSON objects on the wire. Sessions read and write them by themselves.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from se_server.speech_engine.session_types import (
    CLOSE,
    DISCONNECTED,
    ERROR,
    INIT,
    USER_TRANSCRIPT,
    ConversationMessage,
    WebSocketLike,
    wrap_websocket,
)

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "ReceiveUpstreamMessage",
    "SendUpstreamMessage",
    "WebSocketLike",
    "wrap_websocket",
]


class Init(TypedDict):
    """The first message of the API."""

    type: Literal["init"]
    conversation_id: str


class TranscriptMessage(TypedDict):
    """One entry of a transcript on the wire; handlers get a `ConversationMessage`."""

    role: Literal["user", "agent"]
    content: str


class UserTranscript(TypedDict):
    """The conversation so far, whose last words are to be answered."""

    type: Literal["user_transcript"]
    user_transcript: list[TranscriptMessage]
    event_id: int


class Ping(TypedDict):
    """Asks for a pong."""

    type: Literal["ping"]


class Close(TypedDict):
    """The API ends the conversation."""

    type: Literal["close"]


class Error(TypedDict):
    """The API reports an error."""

    type: Literal["error"]
    message: str


class AgentResponse(TypedDict):
    """A piece of an answer, or with `is_final` its end."""

    type: Literal["agent_response"]
    content: str
    event_id: int
    is_final: bool


class Pong(TypedDict):
    """Answers a ping."""

    type: Literal["pong"]


ReceiveUpstreamMessage = Init | UserTranscript | Ping | Close | Error
"""Any message of the API to the server."""

SendUpstreamMessage = AgentResponse | Pong
"""Any message of the server to the API."""
