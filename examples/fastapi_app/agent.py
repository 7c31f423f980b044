"""An agent inside a FastAPI application, beside its other routes: `uvicorn agent:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from openai import AsyncOpenAI

from se_server import AsyncElevenLabs, ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the engine, whose key verifies requests, and one client of the model."""
    url = os.environ.get("ELEVENLABS_BASE_URL")
    app.state.engine = await AsyncElevenLabs(base_url=url).speech_engine.get(os.environ["ENGINE_ID"])
    async with AsyncOpenAI() as app.state.llm:
        yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def conversation(websocket: WebSocket) -> None:
    """Hold a conversation over a WebSocket that comes from the API."""
    engine = app.state.engine
    if not engine.verify_request(websocket.headers):
        await websocket.close()  # before accept(): the client gets 403
        return
    await websocket.accept()
    session: SpeechEngineSession = engine.create_session(websocket)

    @session.on("user_transcript")
    async def answer(transcript: list[ConversationMessage]) -> None:
        messages = as_openai(transcript)
        stream = app.state.llm.responses.create(model=MODEL, instructions=SYSTEM, input=messages, stream=True)
        await session.send_response(stream)

    await session.run()
