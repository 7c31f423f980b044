"""The reference agent, which misbehaves on request so that se-doctor can decide every case.

`se-server se_server.doctor.agent` serves it, and `se-doctor --agent reference URL` examines it. It depends on nothing
else, needs no language model, and also runs under the published SDK. It looks for these words anywhere in the user's
sentence, in any letter case and punctuation:

words                        | reaction
-----------------------------+------------------------------------------------------------------------------------
tell me a long story         | answers for about 4 s, a few words at a time
think for N seconds          | is silent for N seconds, then answers in one sentence
take N seconds to clean up   | tells the story; after an interruption its handler ends N seconds later
ignore interruptions         | tells the story; after an interruption its handler continues for 6 s
use a language model         | tells the story from a stream that has to be closed, like the stream of an LLM client
are your streams closed      | says whether the streams of this conversation are closed
fail                         | raises before the first word
fail midway                  | raises after some words
say nothing                  | returns without an answer
use a tool for N seconds     | streams a call of a tool and no text, and answers N seconds later
answer in two parts          | sends two answers, where the server can as the parts of one
what became of ID            | says the last words of that conversation, and how many of its handlers still run
anything else                | repeats the user's words
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

STORY = " ".join(f"This is sentence {number} of a long story." for number in range(1, 81))
PAUSE_S = 0.05
STUBBORN_S = 6.0
MAX_SECONDS = 30.0
MAX_KNOWN = 200


class Failure(Exception):
    """The exception that the agent raises on request."""


@dataclass
class Known:
    """The last words of a conversation, and the number of its handlers that run."""

    said: str = ""
    running: int = 0


_known: dict[str, Known] = {}


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """React to the user's last words, and note them."""
    said = next((message.content for message in reversed(transcript) if message.role == "user"), "")
    known = _known.setdefault(str(session.conversation_id).lower(), Known())
    if len(_known) > MAX_KNOWN:
        del _known[next(iter(_known))]
    known.said = said
    known.running += 1
    try:
        await _react(said, session)
    finally:
        known.running -= 1


async def _react(said: str, session: Any) -> None:
    words = " ".join(re.findall(r"[\w.]+", said.lower()))
    if "say nothing" in words:
        return
    if "fail midway" in words:
        await session.send_response(_fail_midway())
    elif re.search(r"\bfail\b", words):
        raise Failure("as requested")
    elif "are your streams closed" in words:
        await session.send_response(_count(session))
    elif "use a language model" in words:
        stream = ModelStream()
        session.model_streams = [*getattr(session, "model_streams", ()), stream]
        await session.send_response(stream)
    elif found := re.search(r"what became of (\w+)", words):
        await session.send_response(_became_of(found[1]))
    elif "use a tool" in words:
        await session.send_response(_call_a_tool())
        await asyncio.sleep(_seconds(words))
        await session.send_response(f"The tool is done. You said: {said}")
    elif "in two parts" in words:
        goes_on = {"final": False} if "final" in inspect.signature(session.send_response).parameters else {}
        await session.send_response("This is the first part. ", **goes_on)
        await session.send_response("This is the second part.")
    elif "clean up" in words:
        await _clean_up_slowly(session, _seconds(words))
    elif "ignore interruptions" in words:
        await _ignore_interruptions(session)
    elif "long story" in words:
        await session.send_response(_story())
    else:
        if "think for" in words:
            await asyncio.sleep(_seconds(words))
        await session.send_response(f"You said: {said}")


class ModelStream:
    """A stream that continues, at a price, until it is closed."""

    def __init__(self) -> None:
        self.is_closed = False
        self._story = _story()

    def __aiter__(self) -> ModelStream:
        return self

    async def __anext__(self) -> str:
        # As with an HTTP client, cancellation only ends the wait for the next piece; the stream stays open.
        text = await asyncio.shield(asyncio.ensure_future(_next(self._story)))
        if text is None:
            self.is_closed = True
            raise StopAsyncIteration
        return text

    async def close(self) -> None:
        self.is_closed = True


async def _next(story: AsyncIterator[str]) -> str | None:
    return await anext(story, None)


async def _story() -> AsyncIterator[str]:
    for piece in re.findall(r"(?:\S+\s*){1,8}", STORY):
        yield piece
        await asyncio.sleep(PAUSE_S)


async def _fail_midway() -> AsyncIterator[str]:
    yield "These are the words before the failure. "
    await asyncio.sleep(PAUSE_S)
    raise Failure("as requested, midway")


async def _call_a_tool() -> AsyncIterator[dict[str, Any]]:
    """A stream of an LLM that calls a tool: chunks of OpenAI's chat completions, without text."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def _became_of(conversation_id: str) -> str:
    known = _known.get(conversation_id)
    if known is None:
        return "I do not know it."
    return f"Its last words were: {known.said} There are {known.running} handlers of it that still run."


async def _clean_up_slowly(session: Any, seconds: float) -> None:
    try:
        await session.send_response(_story())
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)
        raise


async def _ignore_interruptions(session: Any) -> None:
    loop = asyncio.get_running_loop()
    ends_at: float | None = None
    while ends_at is None or loop.time() < ends_at:
        try:
            if ends_at is None:
                await session.send_response(_story())
                return
            await asyncio.sleep(ends_at - loop.time())
        except asyncio.CancelledError:
            ends_at = ends_at or loop.time() + STUBBORN_S


def _count(session: Any) -> str:
    streams = getattr(session, "model_streams", ())
    left = sum(not stream.is_closed for stream in streams)
    return f"No, {left} of {len(streams)} still open." if left else f"Yes, all {len(streams)} of them."


def _seconds(words: str) -> float:
    found = re.search(r"\d+(\.\d+)?", words)
    return min(float(found[0]), MAX_SECONDS) if found else 1.0
