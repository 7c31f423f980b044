"""Finds the HTTP responses underneath a stream, for packages whose `aclose` does not reach theirs.

google-genai's generators, anthropic's `text_stream` and llama-index's generators hold their responses in frames and
attributes that no public method leads to: only the garbage collector would end those requests. So the references of
suspended generators, and of the stream objects of packages, are followed down to an HTTP response. LangGraph reads its
models in tasks; one that lost its cancellation (`asyncio.wait_for` does that before Python 3.12) waits for ever. A task
that was not cancelled is left alone until the time is up: a generator may well wait for one that it shares with others.
"""

from __future__ import annotations

import asyncio
import enum
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


class Follow(enum.Enum):
    """The tasks that are followed from a stream."""

    NONE = enum.auto()
    # Through all, but what they hold is the stream's only where a task was cancelled; Python 3.10 does not count that.
    CANCELLED = enum.auto()
    ALL = enum.auto()


def was_cancelled(task: asyncio.Task[Any]) -> bool:
    """Whether a task was cancelled that has not ended."""
    cancelling = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 0


def closers_underneath(source: object, follow: Follow = Follow.NONE) -> list[Closer]:
    """Return what closes the HTTP responses that can be reached from `source` and are open."""
    return [_response_closer(response) for response in _reached(source, follow)[0] if not _is_closed(response)]


def lost_tasks(source: object) -> list[asyncio.Task[Any]]:
    """Return the tasks that can be reached from `source`, were cancelled, and go on as if they were not."""
    return [
        task
        for task in _reached(source, Follow.CANCELLED)[1]
        if was_cancelled(task) and not is_cleaning_up(task.get_coro())
    ]


def is_cleaning_up(driven: object) -> bool:
    """Whether a suspended coroutine or generator, or one that it awaits, handles a cancellation at the moment.

    The exception that a suspended frame handles is among the references of its generator, and nowhere else.
    """
    seen: set[int] = set()
    waiting = [driven]
    while waiting and len(seen) < MAX_OBJECTS:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for other in gc.get_referents(value):
            if isinstance(other, BaseException) and _is_of_cancellation(other):
                return True
            if isinstance(other, GENERATORS) or STREAM.search(type(other).__name__):
                waiting.append(other)
    return False


def _is_of_cancellation(error: BaseException | None) -> bool:
    for _ in range(8):
        if error is None or isinstance(error, asyncio.CancelledError):
            break
        error = error.__context__
    return isinstance(error, asyncio.CancelledError)


def _reached(source: object, follow: Follow) -> tuple[list[Any], list[asyncio.Task[Any]]]:
    """Return the HTTP responses of a stream, and the tasks it refers to that are not done."""
    responses: list[Any] = []
    tasks: list[asyncio.Task[Any]] = []
    seen: set[int] = set()
    waiting: deque[tuple[Any, bool]] = deque([(source, True)])
    while waiting and len(seen) < MAX_OBJECTS:
        value, is_own = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if any(identity(base) in RESPONSES for base in type(value).__mro__):
            if is_own:
                responses.append(value)
            continue
        if not isinstance(value, asyncio.Future):
            further = [other for other in _references_of(value, follow) if _leads_on(other)]
        elif follow is not Follow.NONE and not value.done():
            further = _awaited_by(value)
            if isinstance(value, asyncio.Task):
                tasks.append(value)
                is_own = follow is Follow.ALL or was_cancelled(value)
        else:
            continue
        waiting.extend((other, is_own) for other in further)
    return responses, tasks


def _references_of(value: Any, follow: Follow) -> list[Any]:
    members = None if isinstance(value, CONTAINERS) else getattr(value, "__dict__", None)
    references = list(members.values()) if isinstance(members, dict) else gc.get_referents(value)
    if follow is not Follow.NONE:
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
    """Closes a response.

    Attributes:
        blocks: whether a thread reads it: closed by another one, its socket would leave that thread waiting for ever.
    """

    __slots__ = ("blocks", "owner", "response", "target_name")

    def __init__(self, response: Any) -> None:
        self.response = response
        # Kept from now on: a reader forgets its connection when its response is collected.
        is_reader = type(response).__name__ == "StreamReader"
        self.owner = response._protocol if is_reader else response
        self.target_name = name_of(response)
        stream = type(getattr(self.owner, "stream", None))
        self.blocks = hasattr(stream, "__iter__") and not hasattr(stream, "__aiter__")

    def __call__(self, error: BaseException | None) -> Any:
        if self.response.is_eof() if self.owner is not self.response else _is_closed(self.response):
            return None
        # A response of a blocking client has `aclose`, too, which refuses.
        close = None if self.blocks else getattr(self.owner, "aclose", None)
        return (close or self.owner.close)()
