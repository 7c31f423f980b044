"""An agent on Gemini, with google-genai: `se-server agent.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

from google import genai

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_gemini

MODEL = os.environ.get("MODEL", "gemini-2.5-flash")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

log = logging.getLogger("agent")


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker, until the worker ends; it reads GEMINI_API_KEY."""
    global llm
    async with genai.Client().aio as llm:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer; its thoughts are left out."""
    history = as_gemini(transcript, system=SYSTEM)
    await session.send_response(llm.models.generate_content_stream(**history, model=MODEL))


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    """Log a failure; `se-server --failure-text "Sorry, once more?"` also speaks."""
    log.error("%s: %s", type(error).__name__, error)
