"""Refuses what cannot be spoken: the error names it and the way out, and it is closed, since its request runs on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import re
import reprlib
from collections.abc import Iterable
from typing import Any, NoReturn

from se_server.streams.driving import within
from se_server.streams.forms import identity, name_of

EXPECTED = "send_response takes a str, an async iterable or iterable of str or LLM events, or an awaitable of one"

# A client is shared by conversations, and is not closed because one of them passed it by mistake.
CLIENT = re.compile(r"(Client|Session|Connector|Pool|Engine|Agent|OpenAI|Anthropic|Groq|Together|Mistral)(V2)?$")

HINTS = (
    ("Agent", "pydantic_ai", "agent.run_stream(text)"),
    ("Agent", "agents", "Runner.run_streamed(agent, text)"),
    ("Agent", "", "its streaming method's result"),
    ("astream_chat", "", "what `await llm.astream_chat(messages)` returns"),
    ("astream", "langgraph", 'graph.astream(input, stream_mode="messages")'),
    ("astream", "", "what `.astream(input)` returns"),
    ("responses", "", "what `client.responses.create(..., stream=True)` returns"),
    ("messages", "", "what `client.messages.create(..., stream=True)` returns"),
    ("chat", "", "what the client's streaming chat call returns"),
    ("AsyncClient", "google", "what `client.aio.models.generate_content_stream(...)` returns"),
    ("AsyncClient", "httpx", "what `await client.send(request, stream=True)` returns"),
    ("AsyncClient", "httpx2", "what `await client.send(request, stream=True)` returns"),
    ("ClientSession", "aiohttp", "what `session.post(...)` returns"),
    ("aio", "google", "what `client.aio.models.generate_content_stream(...)` returns"),
)

CLOSE_S = 0.5

closing_tasks: set[asyncio.Task[None]] = set()
"""Tasks that close what was refused; the event loop holds no strong reference to a task."""


def refuse(value: object) -> NoReturn:
    """Close what cannot be spoken, and raise.

    Raises:
        TypeError: always; it names the object's class, what is accepted, and the nearest right form.
    """
    close_refused(value)
    raise TypeError(message_for(value))


def message_for(value: object) -> str:
    """Return the sentence for an object that cannot be spoken."""
    name = name_of(value)
    if value is None:
        return f"{EXPECTED}, not None: a function without `return`, or one that sends the answer itself, gives None"
    if isinstance(value, type):
        return f"{EXPECTED}, not the class {value.__module__}.{value.__qualname__}: pass an object of it"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return f"{EXPECTED}, not the function {_function_name(value)}: {_call_to_make(value)}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{EXPECTED}, not {name}: decode it, or pass the HTTP response itself"
    if isinstance(value, dict):
        keys = ", ".join(repr(key) for key in list(value)[:8]) or "no keys"
        return f"{EXPECTED}, not a dict with {keys}: pass the text in it, or what iterates over the stream"
    if isinstance(value, (int, float, complex)):
        return f"{EXPECTED}, not {name}: pass str(value) to speak it"
    if hint := hint_for(value):
        return f"{EXPECTED}, not {name}: pass {hint}"
    for attribute in ("text", "content", "output_text"):
        with contextlib.suppress(Exception):  # a property of user code
            if isinstance(getattr(value, attribute, None), str):
                return f"{EXPECTED}, not {name}: pass its .{attribute}"
    return f"{EXPECTED}, not {name}: pass the text, or what iterates over the stream"


def hint_for(value: object) -> str:
    """Return the nearest right form of a client, an agent or a model, or an empty text."""
    package, name = identity(type(value))
    for mark, wanted_package, hint in HINTS:
        if wanted_package in ("", package) and (name == mark or hasattr(type(value), mark)):
            return hint
    return ""


def is_client(value: object) -> bool:
    """Whether an object is one that conversations share: a client, an agent, a model."""
    return CLIENT.search(type(value).__name__) is not None or hint_for(value) != ""


def _function_name(value: Any) -> str:
    inner = value.func if isinstance(value, functools.partial) else value
    return getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or repr(type(inner).__name__)


def _call_to_make(value: Any) -> str:
    inner = value.func if isinstance(value, functools.partial) else value
    name = getattr(inner, "__name__", "it")
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        return f"call it, as in send_response({name}())"
    if inspect.iscoroutinefunction(inner):
        return f"call it, as in send_response(await {name}())"
    return f"call it and pass what it returns, as in send_response({name}())"


def refuse_options(value: object, text: object, nodes: object) -> None:
    """Refuse the options of an answer that cannot be used, and close the answer.

    Raises:
        TypeError: `text` cannot be called, or `nodes` is no collection of names.
    """
    if text is not None and not callable(text):
        close_refused(value)
        raise TypeError(f"send_response takes a function of an event as text=, not {name_of(text)}")
    names = (nodes,) if isinstance(nodes, str) else nodes
    if nodes is not None and not (isinstance(names, Iterable) and all(isinstance(name, str) for name in names)):
        close_refused(value)
        raise TypeError(
            f"send_response takes the names of LangGraph nodes as nodes=, such as {{'agent'}}, not {nodes!r}"
        )


def refuse_flags(value: object, final: object, speak_refusals: object, takeover: object) -> None:
    """Refuse options that are neither True nor False, such as the text "no", and close the answer.

    Raises:
        TypeError: one of them is of another type; None stands for the server's setting of the last two.
    """
    for name, flag in (("final", final), ("speak_refusals", speak_refusals), ("takeover", takeover)):
        if type(flag) is not bool and (flag is not None or name == "final"):
            close_refused(value)
            raise TypeError(f"send_response takes True or False as {name}=, not {reprlib.repr(flag)}")


def close_event(event: object) -> None:
    """Close an event that is a stream or an awaitable itself, since it is not read and its request would run on."""
    kind = type(event)
    if any(hasattr(kind, name) for name in ("__aiter__", "__await__", "__aenter__", "__next__")):
        close_refused(event)


def close_refused(value: object) -> None:
    """Close an object, and what a dict holds: a request behind it would run on, and be paid for.

    A closing that has to be awaited goes on in a task of its own. Clients stay open.
    """
    for target in (*value.values(), value) if isinstance(value, dict) else (value,):
        kind = type(target)
        if isinstance(target, type) or is_client(target):
            continue
        close = next((getattr(target, name) for name in ("aclose", "close", "cancel") if hasattr(kind, name)), None)
        if close is None:
            continue
        try:
            closing = close()
        except Exception:
            continue
        if inspect.isawaitable(closing):
            _finish(closing)


def _finish(closing: Any) -> None:
    async def finish() -> None:
        with contextlib.suppress(Exception):  # the error that matters is the refusal
            await within(closing, CLOSE_S)

    try:
        task = asyncio.get_running_loop().create_task(finish())
    except RuntimeError:  # no event loop runs
        getattr(closing, "close", lambda: None)()
        return
    closing_tasks.add(task)
    task.add_done_callback(closing_tasks.discard)
