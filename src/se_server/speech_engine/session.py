"""`elevenlabs.speech_engine.session`: the session, and the type of its handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from se_server.conversation.session import SpeechEngineSession
from se_server.types import ConversationMessage, WebSocketLike

Callback = Callable[..., Any]
"""A handler of an event, plain or coroutine function."""

__all__ = ["Callback", "ConversationMessage", "SpeechEngineSession", "WebSocketLike"]
