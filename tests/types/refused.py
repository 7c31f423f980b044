"""Mistakes that type checkers report: each line that ends in `# refused` has an error, and no other line has."""

from __future__ import annotations

from typing import Any

from se_server import ConversationMessage, SpeechEngineConfig, SpeechEngineResource, SpeechEngineServer
from se_server.speech_engine import SpeechEngineSession


def handler(*args: Any) -> None:
    """Take anything."""


def events(session: SpeechEngineSession) -> None:
    session.on("user_transcripts", handler)  # refused
    session.once("initt", handler)  # refused
    session.off("disconnect", handler)  # refused

    @session.on("closed")  # refused
    def closed() -> None: ...

    print(closed)


async def servers(engine: SpeechEngineResource) -> None:
    SpeechEngineServer(on_transcripts=handler)  # refused
    SpeechEngineServer(on_trancript=handler, port=1)  # refused
    SpeechEngineServer(ping_timeouts=1)  # refused
    await engine.serve(on_message=handler)  # refused
    await engine.serve(onTranscript=handler)  # refused
    await engine.serve(port="3001")  # refused


def values(message: ConversationMessage) -> None:
    message.content = "x"  # refused
    SpeechEngineConfig(ws_url="wss://x", request_headers={"A": {"secret": "s"}})  # refused
