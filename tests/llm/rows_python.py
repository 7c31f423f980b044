"""Plain Python: texts, generators, lists, coroutines; texts that are raw lines; and mistakes."""

from __future__ import annotations

import asyncio
import functools
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

from tests.llm.rows import REASONING, TEXT, Case, Package
from tests.llm.rows_openai import THREAD
from tests.providers.script import Script, tokens_of

python = Package("Plain Python", script=Script())
events = Package("Events as dicts and objects", script=Script())
raw = Package("Raw lines", script=Script())
mistakes = Package("Mistakes", script=Script())

ACLOSE = "`aclose()`"
PIECES = tokens_of(TEXT)
BEFORE: dict[str, Any] = {"expected": TEXT, "is_stream": False}


async def words(pieces: Any = PIECES) -> AsyncIterator[Any]:
    """Yield the pieces of an answer."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def blocking_words() -> Iterator[str]:
    """Yield the texts of an answer, without an event loop."""
    yield from PIECES


@python.row('"a text"', **BEFORE)
async def text(case: Case) -> Any:
    return TEXT


@python.row("async def words(): yield ...; words()", closed_by=ACLOSE, **BEFORE)
async def async_generator(case: Case) -> Any:
    return words()


@python.row("an object with __aiter__", closed_by="`aclose()` or `close()`, if it has one", **BEFORE)
async def async_iterable(case: Case) -> Any:
    class Words:
        def __aiter__(self) -> Any:
            return words()

    return Words()


@python.row("def words(): yield ...; words()", closed_by=THREAD, note="Read in a thread of its own.", **BEFORE)
async def generator(case: Case) -> Any:
    return blocking_words()


@python.row("an iterator, such as map(...)", closed_by=THREAD, note="Read in a thread of its own.", **BEFORE)
async def iterator(case: Case) -> Any:
    return map(str, PIECES)


@python.row('["a", "list"], ("a", "tuple")', **BEFORE)
async def a_list(case: Case) -> Any:
    return list(PIECES)


@python.row("deque(...)", note="Read in a thread of its own.", **BEFORE)
async def a_deque(case: Case) -> Any:
    return deque(PIECES)


@python.row("a coroutine that returns a text", closed_by="cancelling it", note="It is awaited.", **BEFORE)
async def coroutine_of_text(case: Case) -> Any:
    async def answer() -> str:
        return TEXT

    return answer()


@python.row("a coroutine that returns a stream", closed_by=ACLOSE, note="It is awaited.", **BEFORE)
async def coroutine_of_stream(case: Case) -> Any:
    async def answer() -> Any:
        return words()

    return answer()


@python.row("asyncio.create_task(...)", closed_by="cancelling it", note="It is awaited.", **BEFORE)
async def task(case: Case) -> Any:
    async def answer() -> str:
        return TEXT

    return asyncio.create_task(answer())


@python.row("a Future", closed_by="cancelling it", note="It is awaited.", **BEFORE)
async def future(case: Case) -> Any:
    made = asyncio.get_running_loop().create_future()
    made.get_loop().call_soon(made.set_result, TEXT)
    return made


@python.row("an async generator whose texts repeat the text so far", closed_by=ACLOSE, expected=TEXT, is_stream=False,
            note="Only what is new is spoken.")  # fmt: skip
async def growing(case: Case) -> Any:
    return words(["".join(PIECES[: end + 1]) for end in range(len(PIECES))])


@python.row("texts with halves of a surrogate pair", closed_by=ACLOSE, expected="Hi 🙂!", is_stream=False,
            note="They are joined.")  # fmt: skip
async def halves(case: Case) -> Any:
    return words(["Hi ", "\ud83d", "\ude42", "!"])


@python.row("events of your own class, text=function", closed_by=ACLOSE, options={"text": lambda event: event.said},
            note="`register_extractor` does it once for all answers.", **BEFORE)  # fmt: skip
async def own_events(case: Case) -> Any:
    return words([SimpleNamespace(said=piece) for piece in PIECES])


# --- events ---------------------------------------------------------------------------------------------------------


def chat_chunk(**delta: Any) -> dict[str, Any]:
    """Return a chunk of a chat completion as a dict."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@events.row("an async generator of chat completion chunks, as dicts", closed_by=ACLOSE, **BEFORE)
async def chat_dicts(case: Case) -> Any:
    reasoning = [chat_chunk(reasoning_content=REASONING)]
    return words(reasoning + [chat_chunk(content=piece) for piece in PIECES])


@events.row("an async generator of Responses events, as dicts", closed_by=ACLOSE, **BEFORE)
async def responses_dicts(case: Case) -> Any:
    deltas = [{"type": "response.output_text.delta", "delta": piece} for piece in PIECES]
    return words([*deltas, {"type": "response.output_text.done", "text": TEXT}])


@events.row("an async generator of Anthropic events, as dicts", closed_by=ACLOSE, **BEFORE)
async def anthropic_dicts(case: Case) -> Any:
    thinking = [{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": REASONING}}]
    deltas = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}} for piece in PIECES]
    return words(thinking + deltas)


@events.row("an async generator of Gemini answers, as dicts", closed_by=ACLOSE, **BEFORE)
async def gemini_dicts(case: Case) -> Any:
    parts = [{"text": REASONING, "thought": True}, *({"text": piece} for piece in PIECES)]
    return words([{"candidates": [{"content": {"parts": [part]}}]} for part in parts])


@events.row("an async generator of SimpleNamespace objects with an API's attributes", closed_by=ACLOSE, **BEFORE)
async def namespaces(case: Case) -> Any:
    deltas = [SimpleNamespace(content=piece) for piece in PIECES]
    return words([SimpleNamespace(choices=[SimpleNamespace(index=0, delta=delta)]) for delta in deltas])


@events.row("a chat completion as a dict", note="The whole answer at once.", **BEFORE)
async def chat_dict(case: Case) -> Any:
    return {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}]}


@events.refused("an async generator of events of an unknown class", "register_extractor")
async def unknown_events(case: Case) -> Any:
    return words([SimpleNamespace(said=piece) for piece in PIECES])


# --- raw lines ------------------------------------------------------------------------------------------------------


def lines(*, ending: str = "\n") -> list[str]:
    """Return the server-sent events of a chat completion, line by line."""
    chunks = [chat_chunk(reasoning_content=REASONING), *(chat_chunk(content=piece) for piece in PIECES)]
    sent = [line for chunk in chunks for line in (f"data: {json.dumps(chunk)}", "")]
    return [line + ending for line in (*sent, "data: [DONE]", "")]


@raw.row("`data:` lines, as text", closed_by=ACLOSE, note="Never spoken as they are.", **BEFORE)
async def text_lines(case: Case) -> Any:
    return words(lines())


@raw.row("`data:` lines without their line ends", closed_by=ACLOSE, note="Never spoken as they are.", **BEFORE)
async def bare_lines(case: Case) -> Any:
    return words(lines(ending=""))


@raw.row("`data:` lines, as bytes", closed_by=ACLOSE, **BEFORE)
async def byte_lines(case: Case) -> Any:
    return words([line.encode() for line in lines()])


@raw.row("the bytes of a body, cut anywhere", closed_by=ACLOSE, **BEFORE)
async def cut_bytes(case: Case) -> Any:
    body = "".join(lines()).encode()
    return words([body[start : start + 7] for start in range(0, len(body), 7)])


@raw.row("NDJSON lines, as text", closed_by=ACLOSE, note="Never spoken as they are.", **BEFORE)
async def json_lines(case: Case) -> Any:
    return words([json.dumps({"message": {"content": piece}, "done": False}) + "\n" for piece in PIECES])


@raw.row("`await response.text()`", note="A body as one text: never spoken as it is.", **BEFORE)
async def whole_body(case: Case) -> Any:
    return "".join(lines())


# --- mistakes -------------------------------------------------------------------------------------------------------


@mistakes.refused("None", "not None")
async def none(case: Case) -> Any:
    return None


@mistakes.refused("an async generator function that was not called", "words()")
async def generator_function(case: Case) -> Any:
    return words


@mistakes.refused("a coroutine function that was not called", "call it")
async def coroutine_function(case: Case) -> Any:
    async def answer() -> str:
        return TEXT

    return answer


@mistakes.refused("functools.partial(...)", "call it")
async def a_partial(case: Case) -> Any:
    return functools.partial(words, PIECES)


@mistakes.refused("42", "str(value)")
async def number(case: Case) -> Any:
    return 42


@mistakes.refused('b"bytes"', "decode it")
async def some_bytes(case: Case) -> Any:
    return b"bytes"


@mistakes.refused('{"text": ...}', "dict")
async def a_dict(case: Case) -> Any:
    return {"reply": TEXT}


@mistakes.refused("a class", "the class")
async def a_class(case: Case) -> Any:
    return SimpleNamespace


@mistakes.refused("an object of any class", "SimpleNamespace")
async def an_object(case: Case) -> Any:
    return SimpleNamespace(reply=TEXT)


@mistakes.refused("asyncio.Queue()", "Queue")
async def a_queue(case: Case) -> Any:
    return asyncio.Queue()


@mistakes.refused("httpx.AsyncClient()", "client.send", requires="httpx")
async def httpx_itself(case: Case) -> Any:
    import httpx

    return await case.client(httpx.AsyncClient())


@mistakes.refused("aiohttp.ClientSession()", "session.post", requires="aiohttp")
async def aiohttp_itself(case: Case) -> Any:
    import aiohttp

    return await case.client(aiohttp.ClientSession())


@mistakes.refused("asyncio.Lock(), or another context manager that gives no stream", "Lock")
async def a_lock(case: Case) -> Any:
    return asyncio.Lock()


@mistakes.refused("a coroutine that returns None", "not None")
async def coroutine_of_none(case: Case) -> Any:
    async def answer() -> None:
        return None

    return answer()


@mistakes.refused("an async generator that raises", "ValueError: no such model")
async def raising(case: Case) -> Any:
    async def answer() -> AsyncIterator[str]:
        raise ValueError("no such model")
        yield ""

    return answer()
