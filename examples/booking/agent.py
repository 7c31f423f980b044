"""An agent with a tool: `se-server examples/booking/agent.py`. Its tests need no key and no network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from provider import FakeLlm

from se_server import ConversationMessage, SpeechEngineSession

llm = FakeLlm()  # put your provider's client here
ROLES = {"user": "user", "agent": "assistant"}


async def free_tables(day: str) -> str:
    """Return the free tables of a day. This is the tool that the model may call."""
    return f"two tables on {day}"


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Answer with the model's text; run the tools it calls first."""
    messages = [{"role": ROLES[message.role], "content": message.content} for message in transcript]
    await session.send_response(answer(messages))


async def answer(messages: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """Stream the model's answer. When the model calls a tool, announce that, run the tool, and ask again."""
    while True:
        calls = []
        async for event in llm.stream(messages):
            calls += event["choices"][0]["delta"].get("tool_calls", [])
            yield event  # se-server extracts the text; other events are not spoken
        if not calls:
            return
        yield "One moment, I look that up. "
        for call in calls:
            result = await free_tables(**json.loads(call["function"]["arguments"]))
            messages = [*messages, {"role": "tool", "tool_call_id": call["id"], "content": result}]
