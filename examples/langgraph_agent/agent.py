"""An agent on LangGraph: `se-server agent.py`."""

from __future__ import annotations

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import as_langchain

MODEL = os.environ.get("MODEL", "gpt-5-mini")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

# Without its own timeout for each chunk, which can lose a cancellation on Python 3.11 and earlier.
llm = ChatOpenAI(model=MODEL, stream_chunk_timeout=None)


async def answer(state: MessagesState) -> dict[str, Any]:
    """Answer the user."""
    return {"messages": [await llm.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
graph = builder.compile()


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the tokens of one node; those of others, such as a router's, stay silent."""
    messages = {"messages": as_langchain(transcript, system=SYSTEM)}
    await session.send_response(graph.astream(messages, stream_mode="messages"), nodes={"answer"})
