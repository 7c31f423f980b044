"""Finds the HTTP responses underneath a stream, for packages whose `aclose` does not reach theirs.

google-genai's generators, anthropic's `text_stream` and llama-index's generators hold their responses in frames and
attributes that no public method leads to: only the garbage collector would end those requests. So the references of
suspended generators, and of the stream objects of packages, are followed down to an HTTP response. LangGraph reads its
models in tasks; one that lost its cancellation (`asyncio.wait_for` does that before Python 3.12) waits for ever. Tasks
are followed only then: a generator may well wait for a task that it shares with others.
"""

from __future__ import annotations

import asyncio
import gc
import re
import types
from collections import deque
from typing import Any

from se_server.streams.forms import Closer, identity, name_of

# Much more than any stream needs; a limit keeps a strange object from costing time.
MAX_OBJECTS = 400

RESPONSES = {("httpx", "Response"), ("httpx2", "Response"), ("aiohttp", "ClientResponse"), ("aiohttp", "StreamReader")}

GENERATORS = (types.AsyncGeneratorType, types.GeneratorType, types.CoroutineType)
CONTAINERS = (*GENERATORS, types.FrameType, types.MethodType, tuple)
# Of all other objects only those are followed that are made for one stream: a client leads to other conversations.
STREAM = re.compile(r"(Stream|Iter|Response|Generator|Wrapper|Manager|Reader|anext|asend)", re.IGNORECASE)
SHARED = re.compile(r"(Client|Session|Pool|Transport|Loop)", re.IGNORECASE)


def closers_underneath(source: object, *, follow_tasks: bool = False) -> list[Closer]:
    """Return what closes the HTTP responses that can be reached from `source` and are open."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting: deque[Any] = deque([source])
    while waiting and len(seen) < MAX_OBJECTS:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if any(identity(base) in RESPONSES for base in type(value).__mro__):
            found.append(value)
        elif isinstance(value, asyncio.Future):
            if follow_tasks:
                waiting.extend(_awaited_by(value))
        else:
            waiting.extend(other for other in _references_of(value, follow_tasks) if _leads_on(other))
    return [_response_closer(response) for response in found if not _is_closed(response)]


def _references_of(value: Any, follow_tasks: bool) -> list[Any]:
    members = None if isinstance(value, CONTAINERS) else getattr(value, "__dict__", None)
    references = list(members.values()) if isinstance(members, dict) else gc.get_referents(value)
    if follow_tasks:
        for group in [
            other for other in references if isinstance(other, (list, set, dict, tuple)) and len(other) <= 64
        ]:
            references += [other for other in list(group) if isinstance(other, asyncio.Future)]
    return references


def _awaited_by(future: Any) -> list[Any]:
    if isinstance(future, asyncio.Task):
        return [future.get_coro(), getattr(future, "_fut_waiter", None)]
    return list(getattr(future, "_children", None) or ())  # of asyncio.gather


def _leads_on(value: object) -> bool:
    if isinstance(value, (*GENERATORS, types.FrameType, types.MethodType, asyncio.Future)):
        return True
    kind = type(value)
    if isinstance(value, type) or kind.__module__ == "builtins":
        return STREAM.search(kind.__name__) is not None
    return STREAM.search(kind.__name__) is not None and SHARED.search(kind.__name__) is None


def _is_closed(response: Any) -> bool:
    if identity(type(response)) == ("aiohttp", "StreamReader"):  # google-genai holds only this of its response
        return bool(response.is_eof() or response._protocol is None)
    closed = getattr(response, "is_closed", None)
    return bool(getattr(response, "closed", False) if closed is None else closed)


class _response_closer:
    __slots__ = ("owner", "response", "target_name")

    def __init__(self, response: Any) -> None:
        self.response = response
        # Kept from now on: a reader forgets its connection when its response is collected.
        is_reader = type(response).__name__ == "StreamReader"
        self.owner = response._protocol if is_reader else response
        self.target_name = name_of(response)

    def __call__(self, error: BaseException | None) -> Any:
        if self.response.is_eof() if self.owner is not self.response else _is_closed(self.response):
            return None
        # A response of a blocking client has `aclose`, too, which refuses.
        stream = type(getattr(self.owner, "stream", None))
        blocks = hasattr(stream, "__iter__") and not hasattr(stream, "__aiter__")
        close = None if blocks else getattr(self.owner, "aclose", None)
        return (close or self.owner.close)()
