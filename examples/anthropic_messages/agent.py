"""An agent on Anthropic's Messages API: `se-server agent.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

from anthropic import AsyncAnthropic

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_anthropic

MODEL = os.environ.get("MODEL", "claude-haiku-4-5")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

log = logging.getLogger("agent")


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker, until the worker ends."""
    global llm
    async with AsyncAnthropic(api_key=os.environ["ANTHROPIC_API_KEY"]) as llm:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer. The history is merged so that it alternates and ends with the user."""
    history = as_anthropic(transcript, system=SYSTEM)
    await session.send_response(llm.messages.create(**history, model=MODEL, max_tokens=500, stream=True))


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    """Log a failure; `se-server --failure-text "Sorry, once more?"` also speaks."""
    log.error("%s: %s", type(error).__name__, error)
