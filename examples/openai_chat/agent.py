"""An agent on OpenAI's Chat Completions, which many other servers offer, too: `se-server agent.py`."""

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
    """Speak the model's answer, without the Markdown that models like to write."""
    messages = as_openai(transcript, system=SYSTEM)
    stream = llm.chat.completions.create(model=MODEL, messages=messages, stream=True)
    await session.send_response(stream, shape="plain")


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    """Log a failure; `se-server --failure-text "Sorry, once more?"` also speaks."""
    log.error("%s: %s", type(error).__name__, error)
