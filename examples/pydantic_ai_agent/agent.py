"""An agent on pydantic-ai, with a tool: `se-server agent.py`."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "openai-chat:gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

agent = Agent(MODEL, instructions=SYSTEM)


@agent.tool_plain
def time_in_utc() -> str:
    """Return the time of day in UTC."""
    return f"{datetime.now(timezone.utc):%H:%M}"


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the run's text. Tools run inside of it."""
    *earlier, last = as_openai(transcript)
    history = [as_pydantic_ai(message) for message in earlier]
    await session.send_response(agent.run_stream(last["content"], message_history=history))


def as_pydantic_ai(message: dict[str, str]) -> ModelMessage:
    """Return one message of the history in pydantic-ai's form."""
    if message["role"] == "user":
        return ModelRequest(parts=[UserPromptPart(message["content"])])
    return ModelResponse(parts=[TextPart(message["content"])])
