"""The LLM of a recording: gives the events that its streams had, at their times."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from se_server.conversation.jobs import current_turn
from se_server.errors import CallerError


@dataclass
class _Stream:
    """A recorded stream: the event id of its turn, and its events with their seconds since its beginning."""

    event_id: object
    began_s: float
    events: list[tuple[float, Any]] = field(default_factory=list)


class Event(dict[str, Any]):
    """A recorded event: its members are keys and attributes; one that it lacks is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


def _event_of(value: Any) -> Any:
    if isinstance(value, dict):
        return Event({name: _event_of(item) for name, item in value.items()})
    return [_event_of(item) for item in value] if isinstance(value, list) else value


class RecordedStream:
    """A stream as LLM clients return it: iterate over it, await it first, or enter it.

    A plain `for` gets the events at once, because virtual time cannot pass in it.
    """

    def __init__(self, events: Sequence[tuple[float, Any]]) -> None:
        self._events = events

    def __await__(self) -> Generator[Any, None, RecordedStream]:
        yield from ()
        return self

    async def __aiter__(self) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for after_s, event in self._events:
            await asyncio.sleep(max(0.0, began_s + after_s - loop.time()))
            for part in event if isinstance(event, list) else [event]:
                yield _event_of(part)

    def __iter__(self) -> Iterator[Any]:
        for _, event in self._events:
            for part in event if isinstance(event, list) else [event]:
                yield _event_of(part)

    async def __aenter__(self) -> RecordedStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class RecordedLlm:
    """The streams of a recording.

    Args:
        notes: the notes of the recording.
    """

    def __init__(self, notes: Sequence[Mapping[str, Any]]) -> None:
        self._streams: list[_Stream] = []
        for note in notes:
            if note.get("kind") == "stream":
                self._streams.append(_Stream(note.get("event_id"), float(note["t_s"])))
            elif note.get("kind") == "llm" and self._streams:
                stream = self._streams[-1]
                stream.events.append((float(note["t_s"]) - stream.began_s, note.get("event")))

    def ask(self, *_args: Any, **_kwargs: Any) -> RecordedStream:
        """Return the next stream of the turn under way.

        Raises:
            CallerError: the turn had no further one.
        """
        turn = current_turn.get()
        event_id = None if turn is None else turn.event_id
        for place, stream in enumerate(self._streams):
            if stream.event_id == event_id:
                del self._streams[place]
                return RecordedStream(stream.events)
        raise CallerError(f"the recording has no further stream of an LLM for the turn {event_id}")

    @contextmanager
    def in_place_of(self, name: str | None, agent_module: str) -> Iterator[None]:
        """Replace a function of the agent by `ask`.

        Args:
            name: `module:function` or `module:object.method`; None replaces none.
            agent_module: the name of the agent's module, which may be imported under another than its file's.

        Raises:
            CallerError: there is no such function, or the recording has no events.
        """
        if name is None:
            yield
            return
        if not self._streams:
            raise CallerError("this recording has no events of an LLM: it takes --record full")
        holder, last, former = _find(name, agent_module)
        _replace(holder, last, self.ask, name)
        try:
            yield
        finally:
            setattr(holder, last, former)


def _find(name: str, agent_module: str) -> tuple[Any, str, Callable[..., Any]]:
    """Return the holder of a function, its name there, and the function."""
    place, _, path = name.partition(":")
    module = place.removesuffix(".py").replace("/", ".")
    if agent_module == f"se_app_{module}":
        module = agent_module
    *way, last = path.split(".")
    try:
        holder: Any = importlib.import_module(module)
        for part in way:
            holder = getattr(holder, part)
        former = getattr(holder, last)
    except (ImportError, AttributeError, ValueError) as error:
        raise CallerError(f"llm={name!r}: expected module:function of your agent ({error})") from None
    if not callable(former):
        raise CallerError(f"llm={name!r} is not a function")
    return holder, last, former


def _replace(holder: Any, last: str, function: Callable[..., Any], name: str) -> None:
    try:
        setattr(holder, last, function)
    except (AttributeError, TypeError):
        raise CallerError(f"llm={name!r} cannot be replaced: name a function of your module that calls it") from None
