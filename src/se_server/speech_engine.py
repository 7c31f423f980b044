"""`elevenlabs.speech_engine`, name by name: change the import and nothing else."""

from __future__ import annotations

from se_server.auth import verify_speech_engine_jwt
from se_server.conversation.session import SpeechEngineSession
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.server import SpeechEngineServer
from se_server.types import (
    CLOSE,
    DISCONNECTED,
    ERROR,
    INIT,
    USER_TRANSCRIPT,
    ConversationMessage,
    WebSocketLike,
)

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "WebSocketLike",
    "verify_speech_engine_jwt",
]
