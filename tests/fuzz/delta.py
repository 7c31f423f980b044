"""Events built from bytes: the compiled extractor equals the plain-Python reference.

An input is a program: each byte selects the next value, and for a container also its number of parts. A mutation of the
bytes therefore changes the event's shape, and every input is an event.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from typing import Any

import pydantic

from se_server.streams._delta import text_of
from tests.reference import delta as reference

NAMES = ("candidates", "choices", "content", "delta", "parts", "text", "thought", "type")
WORDS = (
    "response.output_text.delta", "content_block_delta", "text_delta", "text", "thinking_delta", "delta", "", "\ud800",
    "response.output_text.done", "\u20ac", "\U0001f600",
)  # fmt: skip
PLAIN = (None, True, False, 0, 10**30, -1.5, b"text", NAMES, int, ..., {}, [], (), "", 1j, frozenset("text"))
MAX_LEVELS = 12


class Word(str):
    """A string subclass that misreports its text."""

    def __str__(self) -> str:
        return "its own idea"


class Choice(str, Enum):
    DELTA = "response.output_text.delta"
    BLOCK = "content_block_delta"


class Table(dict[str, Any]):
    """A dict subclass that misreports its contents."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, "its own idea" if name == "text" else default)


class Row(list[Any]):
    pass


class Slots:
    __slots__ = NAMES


class Hooked:
    """An object whose `__getattr__` reports missing attributes from Python code."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        try:
            return self._parts[name]
        except KeyError:
            raise AttributeError(name) from None


class Everything(Hooked):
    def __getattribute__(self, name: str) -> Any:
        parts = object.__getattribute__(self, "_parts")
        return parts[name] if name in parts else object.__getattribute__(self, name)


class Failing(Hooked):
    """An object whose attributes raise an error that the caller must see."""

    @property
    def delta(self) -> Any:
        raise OverflowError("delta")


class Open(pydantic.BaseModel, extra="allow"):
    type: Any = None


class Strict(pydantic.BaseModel, extra="ignore"):
    type: Any = None
    delta: Any = None
    choices: Any = None


class Defaults(pydantic.BaseModel, extra="allow"):
    @property
    def text(self) -> str:
        return "of the class"


def slots(parts: dict[str, Any]) -> Slots:
    event = Slots()
    for name, value in parts.items():
        setattr(event, name, value)
    return event


def bare(parts: dict[str, Any]) -> Open:
    """Make a model without its constructor: its own slots are unset."""
    event = Open.__new__(Open)
    object.__setattr__(event, "__dict__", parts)
    return event


def fresh(parts: dict[str, Any]) -> Any:
    """Make an object of a new type: the cache of types has a bound."""
    return type("Fresh", (Hooked,), {})(parts)


WRAPPERS: tuple[Callable[[dict[str, Any]], Any], ...] = (
    dict,
    lambda parts: types.SimpleNamespace(**parts),
    lambda parts: Open(**parts),
    lambda parts: Strict(**parts),
    lambda parts: Defaults(**{name: value for name, value in parts.items() if name != "text"}),
    slots,
    Hooked,
    Everything,
    Failing,
    Table,
    types.MappingProxyType,
    bare,
    fresh,
)


class Program:
    """Choices read from bytes; zeros after their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def chars(self, count: int) -> str:
        start, self._at = self._at, self._at + count
        return self._data[start : self._at].decode("utf-8", "surrogateescape")

    def entries(self, count: int, level: int) -> list[Any]:
        return [self.value(level + 1) for _ in range(count)] if level < MAX_LEVELS else []

    def value(self, level: int = 0) -> Any:
        kind, detail = divmod(self.byte(), 16)
        if kind == 0:
            return PLAIN[detail]
        if kind == 1:
            return WORDS[detail % len(WORDS)]
        if kind == 2:
            return self.chars(detail)
        if kind == 3:
            return Word(WORDS[detail % len(WORDS)])
        if kind == 4:
            return Choice.BLOCK if detail % 2 else Choice.DELTA
        if kind < 8:
            entries = self.entries(detail % 5, level)
            return (entries, tuple(entries), Row(entries))[kind - 5]
        if level >= MAX_LEVELS:
            return None
        wrap = WRAPPERS[self.byte() % len(WRAPPERS)]
        # The byte's bits select the names: any two shapes differ by one byte.
        chosen = self.byte() if kind < 12 else 1 << detail % 8
        return wrap({name: self.value(level + 1) for i, name in enumerate(NAMES) if chosen >> i & 1})


def one_input(data: bytes) -> None:
    program = Program(data)
    for _ in range(2):
        event = program.value()
        expected = outcome(reference.text_of, event)
        got = outcome(text_of, event)
        assert got == expected, (event, got, expected)
        assert got is None or type(got) in (str, type), got


def outcome(extract: Callable[[Any], str | None], event: Any) -> Any:
    """Return the text, or the type of the exception."""
    try:
        return extract(event)
    except (ArithmeticError, RecursionError) as error:
        return type(error)
