"""An agent on OpenAI's Responses API: `se-server agent.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

from openai import AsyncOpenAI

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

log = logging.getLogger("agent")


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker, until the worker ends."""
    global llm
    async with AsyncOpenAI() as llm:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer. An interruption cancels this function and ends the request."""
    stream = llm.responses.create(model=MODEL, instructions=SYSTEM, input=as_openai(transcript), stream=True)
    await session.send_response(stream)


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    """Log a failure; `se-server --failure-text "Sorry, once more?"` also speaks."""
    log.error("%s: %s", type(error).__name__, error)
