"""An agent with a backup: OpenAI answers, or else Anthropic, or else a sentence: `se-server agent.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from se_server import ConversationMessage, SpeechEngineSession, first_of
from se_server.history import as_anthropic, as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
BACKUP_MODEL = os.environ.get("BACKUP_MODEL", "claude-haiku-4-5")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."
log = logging.getLogger("agent")


async def on_startup() -> AsyncIterator[None]:
    """Hold one client of each in each worker. They try once: a retry would come too late."""
    global primary, backup
    key = os.environ["ANTHROPIC_API_KEY"]
    async with AsyncOpenAI(max_retries=0) as primary, AsyncAnthropic(api_key=key, max_retries=0) as backup:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the first answer that comes. The backup is asked when the primary was silent for 1.2 s, or has failed."""

    def ask_backup() -> Any:
        history = as_anthropic(transcript, system=SYSTEM)
        return backup.messages.create(**history, model=BACKUP_MODEL, max_tokens=500, stream=True)

    asked = primary.responses.create(model=MODEL, instructions=SYSTEM, input=as_openai(transcript), stream=True)
    await session.send_response(first_of(asked, ask_backup, "I am sorry, please say that again.", after_s=1.2))
    if session.turn is not None and session.turn.winner:
        log.warning("turn %s was answered by backup %d", session.turn.event_id, session.turn.winner)
