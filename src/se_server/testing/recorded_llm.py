"""The LLM of a recording: gives the events that its streams had, at their times."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from se_server.conversation.jobs import current_turn
from se_server.errors import CallerError
from se_server.protocol.turn import Turn

AUTO = "auto"
"""In place of a function's name: those of the known clients."""
KNOWN = (
    "openai.resources.chat.completions:AsyncCompletions.create",
    "openai.resources.chat.completions:Completions.create",
    "openai.resources.responses:AsyncResponses.create",
    "openai.resources.responses:Responses.create",
    "anthropic.resources.messages:AsyncMessages.create",
    "anthropic.resources.messages:AsyncMessages.stream",
    "anthropic.resources.messages:Messages.create",
    "anthropic.resources.messages:Messages.stream",
    "google.genai.models:AsyncModels.generate_content_stream",
    "google.genai.models:Models.generate_content_stream",
)

Form = Callable[[str], Any]
"""Makes an event of a text."""


@dataclass
class _Stream:
    """A recorded stream.

    Attributes:
        event_id: that of its turn.
        began_s: when it was open, in seconds of the recording.
        opened_s: when it was open, in seconds since its turn's transcript, or since the stream before it in the turn.
        events: its events, with their seconds since it was open.
    """

    event_id: object
    began_s: float
    opened_s: float
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


def _form_of(name: str) -> Form:
    """Return the form of a text in the events of a function: the server may have noted the texts alone."""
    if "responses" in name.lower():
        return lambda text: {"type": "response.output_text.delta", "delta": text}
    if "messages" in name.lower():
        return lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    if "generate_content" in name:
        return lambda text: {"text": text, "candidates": [{"content": {"parts": [{"text": text}]}}]}
    if "completion" in name.lower():
        return lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}
    return lambda text: text


class RecordedStream:
    """A stream as LLM clients return it: iterate over it, await it first, or enter it.

    It opens as late as it did in the recording. A plain `for` gets the events at once, because virtual time cannot pass
    in it.
    """

    def __init__(
        self,
        events: Sequence[tuple[float, Any]],
        form: Form,
        opens_at: float = 0.0,
        noted: Callable[[], None] | None = None,
    ) -> None:
        self._events = events
        self._form = form
        self._opens_at = opens_at
        self._noted = noted

    def _parts(self, event: Any) -> Iterator[Any]:
        for part in event if isinstance(event, list) else [event]:
            yield _event_of(self._form(part) if isinstance(part, str) else part)

    def __await__(self) -> Generator[Any, None, RecordedStream]:
        return self._opened().__await__()

    async def _opened(self) -> RecordedStream:
        await asyncio.sleep(max(0.0, self._opens_at - asyncio.get_running_loop().time()))
        return self

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for event in self._timed():
            for part in self._parts(event):
                yield part

    async def _timed(self) -> AsyncIterator[Any]:
        await self._opened()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for after_s, event in self._events:
            await asyncio.sleep(max(0.0, began_s + after_s - loop.time()))
            if self._noted is not None:
                self._noted()
            yield event

    def __iter__(self) -> Iterator[Any]:
        for _, event in self._events:
            yield from self._parts(event)

    @property
    async def text_stream(self) -> AsyncIterator[str]:
        """The texts alone, as Anthropic's client has them."""
        async for event in self._timed():
            for part in event if isinstance(event, list) else [event]:
                text = part if isinstance(part, str) else (part.get("delta") or {}).get("text")
                if text:
                    yield text

    async def __aenter__(self) -> RecordedStream:
        return await self._opened()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class RecordedLlm:
    """The streams of a recording.

    Args:
        notes: the notes of the recording.
        asked_s: when the transcripts of turns came, in seconds of the recording, by the JSON of their event ids.
    """

    def __init__(self, notes: Sequence[Mapping[str, Any]], asked_s: Mapping[str, float] | None = None) -> None:
        self._streams: list[_Stream] = []
        self._last_at: dict[str, float] = {}  # of the turns of today: when the last event was given
        last_s = dict(asked_s or {})
        for note in notes:
            if note.get("kind") == "stream":
                key = json.dumps(note.get("event_id"))
                now_s = float(note["t_s"])
                self._streams.append(_Stream(note.get("event_id"), now_s, now_s - last_s.get(key, now_s)))
                last_s[key] = now_s
            elif note.get("kind") == "llm" and self._streams:
                stream = self._streams[-1]
                stream.events.append((float(note["t_s"]) - stream.began_s, note.get("event")))
                last_s[json.dumps(stream.event_id)] = float(note["t_s"])

    def _take(self, form: Form) -> RecordedStream | None:
        """Return the next stream of the turn under way; None if it had no further one."""
        turn = current_turn.get()
        event_id = None if turn is None else turn.event_id
        for place, stream in enumerate(self._streams):
            if stream.event_id == event_id:
                del self._streams[place]
                return RecordedStream(stream.events, form, *self._times_of(stream, turn))
        return None

    def _times_of(self, stream: _Stream, turn: Turn | None) -> tuple[float, Callable[[], None]]:
        """Return when a stream opens today, and a function to call with each event."""
        key = json.dumps(stream.event_id)

        def note() -> None:
            self._last_at[key] = asyncio.get_running_loop().time()

        since = self._last_at.get(key, 0.0 if turn is None else turn.started_at)
        return since + stream.opened_s, note

    @contextmanager
    def in_place_of(self, names: str | Sequence[str] | None, agent_module: str) -> Iterator[None]:
        """Replace functions of the agent by one that returns the recorded streams.

        Args:
            names: `module:function` or `module:object.method`, one or several; `auto` for the known clients; None
                replaces none.
            agent_module: the name of the agent's module, which may be imported under another than its file's.

        Raises:
            CallerError: there is no such function, or the recording has no events.
        """
        try:
            given = [names] if isinstance(names, str) else list(names or ())
            "".join(given)
        except TypeError:
            raise CallerError(f"llm={names!r}: expected 'auto', 'module:function', or a list of such names") from None
        if given and not self._streams:
            raise CallerError("this recording has no events of an LLM: it takes --record full")
        with ExitStack() as stack:
            for name in given:
                for one in _known_here() if name == AUTO else [name]:
                    stack.enter_context(self._replaced(one, agent_module, is_known=name == AUTO))
            yield

    @contextmanager
    def _replaced(self, name: str, agent_module: str, is_known: bool) -> Iterator[None]:
        """Replace a function, and put it back."""
        holder, last, former = _find(name, agent_module)
        form = _form_of(name)
        streams = last.endswith("stream")

        def ask(*args: Any, **kwargs: Any) -> Any:
            if is_known and not (streams or kwargs.get("stream")):
                return former(*args, **kwargs)
            stream = self._take(form)
            if stream is not None:
                return stream
            if is_known:
                return former(*args, **kwargs)
            turn = current_turn.get()
            raise CallerError(
                f"the recording has no further stream of an LLM for the turn {None if turn is None else turn.event_id}"
            )

        try:
            setattr(holder, last, ask)
        except (AttributeError, TypeError):
            raise CallerError(
                f"llm={name!r} cannot be replaced: name a function of your module that calls it"
            ) from None
        try:
            yield
        finally:
            setattr(holder, last, former)


def _known_here() -> list[str]:
    """Return the known functions of the packages that are imported; of all that are installed if none of them is."""
    packages = {name: "google.genai" if name.startswith("google") else name.partition(".")[0] for name in KNOWN}
    imported = [name for name in KNOWN if packages[name] in sys.modules]
    return imported or [name for name in KNOWN if _is_installed(packages[name])]


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


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
