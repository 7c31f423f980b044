"""The words that the forms of a stream are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NamedTuple

Closer = Callable[[BaseException | None], Awaitable[Any] | None]
"""Closes one thing. It gets the exception that ended the stream, None at its regular end."""

Form = Callable[[Any, Any], object]
"""Takes the opening and an object. Returns the next object to look at, `Pending`, or at last `Events` or `Blocking`."""


class Events(NamedTuple):
    """The iterator of events that the way ends with."""

    iterator: AsyncIterator[Any]


class Blocking(NamedTuple):
    """An object whose iteration blocks, and which gets a thread."""

    source: Any


class Pending(NamedTuple):
    """Something to await; the way goes on with what it gives."""

    awaitable: Awaitable[Any]


def identity(kind: type) -> tuple[str, str]:
    """Return what a class is recognised by: its top-level module and its name."""
    return (getattr(kind, "__module__", None) or "").partition(".")[0], kind.__name__


def name_of(value: object) -> str:
    """Return the name of an object's class for messages, with its package: `openai.AsyncStream`.

    Of a generator or a coroutine, the name of its function follows: `async_generator words`.
    """
    package, name = identity(type(value))
    if isinstance(value, (AsyncGeneratorType, CoroutineType, GeneratorType)):
        return f"{name} {value.__qualname__}"
    return name if package in ("builtins", "") else f"{package}.{name}"


class ListIterator:
    """The events of a list, one after another."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)

    def __aiter__(self) -> ListIterator:
        return self

    async def __anext__(self) -> Any:
        for value in self._values:
            return value
        raise StopAsyncIteration


def list_events(values: Iterable[Any]) -> Events:
    """Return the events of a list."""
    return Events(ListIterator(values))
