"""An agent on Mistral: `se-server agent.py`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
from mistralai.client import Mistral

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "mistral-small-latest")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

llm: Mistral


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker: what follows the `yield` runs at the worker's end."""
    global llm
    key, url = os.environ["MISTRAL_API_KEY"], os.environ.get("MISTRAL_BASE_URL")
    limits = httpx.Limits(max_connections=1000)  # by default the 101st answer at a time would fail
    async with httpx.AsyncClient(limits=limits, follow_redirects=True) as http:
        llm = Mistral(api_key=key, server_url=url, async_client=http)
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer."""
    messages = as_openai(transcript, system=SYSTEM)
    await session.send_response(llm.chat.stream_async(model=MODEL, messages=messages))
