"""`elevenlabs.speech_engine.server`: the server inside one process."""

from __future__ import annotations

from se_server.conversation.session import SpeechEngineSession
from se_server.sdk.server import SpeechEngineServer
from se_server.types import WebSocketLike

__all__ = ["SpeechEngineServer", "SpeechEngineSession", "WebSocketLike"]
