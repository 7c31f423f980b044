"""`elevenlabs.speech_engine`, name by name: change the import and nothing else.

The modules `session`, `resource`, `server` and `types` have their counterparts here, and so have the names of the
published SDK's version 3: `session_types`, `ReceiveUpstreamMessage` and `SendUpstreamMessage`.
"""

from __future__ import annotations

from se_server.speech_engine.resource import SpeechEngineResource, verify_speech_engine_jwt
from se_server.speech_engine.server import SpeechEngineServer
from se_server.speech_engine.session import SpeechEngineSession
from se_server.speech_engine.session_types import (
    CLOSE,
    DISCONNECTED,
    ERROR,
    INIT,
    USER_TRANSCRIPT,
    ConversationMessage,
    WebSocketLike,
)
from se_server.speech_engine.types import ReceiveUpstreamMessage, SendUpstreamMessage

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "ReceiveUpstreamMessage",
    "SendUpstreamMessage",
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "WebSocketLike",
    "verify_speech_engine_jwt",
]
