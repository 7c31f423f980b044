"""An agent on any of the providers that litellm knows: `se-server agent.py`."""

from __future__ import annotations

import os

import litellm

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "openai/gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer."""
    messages = as_openai(transcript, system=SYSTEM)
    await session.send_response(litellm.acompletion(model=MODEL, messages=messages, stream=True))
