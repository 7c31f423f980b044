"""`elevenlabs.speech_engine.resource`: one Speech Engine, and the check of its tokens."""

from __future__ import annotations

from se_server.auth import verify_speech_engine_jwt
from se_server.conversation.session import SpeechEngineSession
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.server import SpeechEngineServer
from se_server.types import WebSocketLike

__all__ = [
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "WebSocketLike",
    "verify_speech_engine_jwt",
]
