"""An agent without any LLM package, over aiohttp: `se-server agent.py`. It takes the least CPU for each token."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

http: aiohttp.ClientSession


async def on_startup() -> AsyncIterator[None]:
    """Hold one pool of connections in each worker: what follows the `yield` runs at the worker's end."""
    global http
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    connector = aiohttp.TCPConnector(limit=0)  # by default the 101st answer at a time would wait
    timeout = aiohttp.ClientTimeout(sock_read=20)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as http:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the text in the response's events: the server reads them itself."""
    body = {"model": MODEL, "messages": as_openai(transcript, system=SYSTEM), "stream": True}
    await session.send_response(http.post(URL, json=body, raise_for_status=True))
