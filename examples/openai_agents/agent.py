"""An agent on the OpenAI Agents SDK, with a tool: `se-server agent.py`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from agents import Agent, Runner, function_tool, set_default_openai_client
from openai import AsyncOpenAI

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."


@function_tool
def opening_hours(day: str) -> str:
    """Return when the shop is open on a day of the week."""
    return "closed" if day.lower() == "sunday" else "from 9 to 18 o'clock"


agent = Agent(name="Shop", instructions=SYSTEM, model=MODEL, tools=[opening_hours])


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker, until the worker ends."""
    async with AsyncOpenAI() as llm:
        set_default_openai_client(llm)
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the text of a run; its tools and handoffs run inside of it. An interruption cancels the run."""
    await session.send_response(Runner.run_streamed(agent, as_openai(transcript)))
