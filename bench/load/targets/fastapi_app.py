"""The published SDK's session in a FastAPI application, as its documentation shows; uvicorn and others serve it.

`BENCH_HANDLER` names another module with an `on_transcript`.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from elevenlabs import AsyncElevenLabs
from elevenlabs.speech_engine import SpeechEngineResource
from fastapi import FastAPI, WebSocket

DEFAULT_HANDLER = "bench.load.targets.handler"

on_transcript = importlib.import_module(os.environ.get("BENCH_HANDLER", DEFAULT_HANDLER)).on_transcript
app = FastAPI()
client = AsyncElevenLabs(api_key=os.environ["ELEVENLABS_API_KEY"])
# The result of `await client.speech_engine.get(ID)`, without its request to the API.
engine = SpeechEngineResource("seng_bench", client._client_wrapper)


@app.websocket("/ws")
async def converse(websocket: WebSocket) -> None:
    """Serve one conversation."""
    if not engine.verify_request(dict(websocket.headers)):
        await websocket.close()  # before it is accepted: refused with 403
        return
    await websocket.accept()
    session = engine.create_session(websocket)

    async def on_user_transcript(transcript: list[Any]) -> None:
        await on_transcript(transcript, session)

    session.on("user_transcript", on_user_transcript)
    await session.run()
