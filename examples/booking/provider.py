"""A fake LLM provider in place of a real SDK: no key, no network, and as slow as a real one on a bad day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

FIRST_TOKEN_S = 1.5
TOKEN_S = 0.05


class FakeLlm:
    """Streams events of OpenAI's Chat Completions: a question about tables calls a tool and speaks its result."""

    async def stream(self, messages: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one answer."""
        await asyncio.sleep(FIRST_TOKEN_S)
        last = messages[-1]
        if last["role"] == "user" and "table" in last["content"].lower():
            call = {"id": "call_1", "function": {"name": "free_tables", "arguments": '{"day": "Friday"}'}}
            yield {"choices": [{"delta": {"tool_calls": [call]}}]}
            return
        text = f"I found this: {last['content']}." if last["role"] == "tool" else "I book tables. When would you come?"
        for word in text.split(" "):
            await asyncio.sleep(TOKEN_S)
            yield {"choices": [{"delta": {"content": word + " "}}]}
