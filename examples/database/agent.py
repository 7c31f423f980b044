"""An agent that looks up orders in SQLite, and speaks while it does so: `se-server agent.py`."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from openai import AsyncOpenAI

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_openai

MODEL = os.environ.get("MODEL", "gpt-5-mini")
SYSTEM = "You are on the telephone of a lamp shop. Answer in one or two short sentences, without lists."
PARAMETERS = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
TOOL = {"name": "order_status", "description": "Look up an order by its number.", "parameters": PARAMETERS}


async def on_startup() -> AsyncIterator[None]:
    """Hold a client and a database in each worker: here one in memory, with an order in it."""
    global llm, database
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, status TEXT)")
    database.execute("INSERT INTO orders VALUES (42, 'it leaves the warehouse on Friday')")
    async with AsyncOpenAI() as llm:
        yield
    database.close()


def order_status(number: int) -> str:
    """Look up an order. This runs in a thread, so that other callers do not wait for the disk."""
    row = database.execute("SELECT status FROM orders WHERE number = ?", (number,)).fetchone()
    return "there is no such order" if row is None else str(row[0])


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Ask the model; while a tool that it calls runs, the caller hears that it does."""
    messages, tools = as_openai(transcript, system=SYSTEM), [{"type": "function", "function": TOOL}]
    calls: dict[int, dict[str, Any]] = {}
    first = llm.chat.completions.create(model=MODEL, messages=messages, tools=tools, stream=True)
    await session.send_response(noting_calls(await first, calls), final=False)
    if calls:
        await session.send_response("One moment, I look that up. ", final=False)  # it leaves at once
        messages.append({"role": "assistant", "content": None, "tool_calls": list(calls.values())})
        for call in calls.values():
            found = await asyncio.to_thread(order_status, **json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": found})
        await session.send_response(llm.chat.completions.create(model=MODEL, messages=messages, stream=True))


async def noting_calls(stream: Any, calls: dict[int, dict[str, Any]]) -> AsyncIterator[Any]:
    """Pass the events of a stream on, and gather the tool calls, which come in pieces."""
    async for event in stream:
        for part in event.choices[0].delta.tool_calls or () if event.choices else ():
            new = {"id": part.id, "type": "function", "function": {"name": "", "arguments": ""}}
            function = calls.setdefault(part.index, new)["function"]
            function["name"] += part.function.name or ""
            function["arguments"] += part.function.arguments or ""
        yield event
