"""Opens the stream of one answer: the way from the object that user code passed to an iterator of events.

    opening = Opening(response)          # by the object's class and structure alone; no package is imported
    iterator = await opening.open()      # awaits coroutines, enters context managers; only where `iterator` is None
    ...
    await opening.close(timeout_s)       # all that was opened, in reverse order

A form looks at one object and returns the next to look at, until one returns `Events`. The forms of packages are found
by the top-level module and the name of a class; all others by what a class can do.
"""

from __future__ import annotations

import inspect
import logging
from collections import UserString
from collections.abc import AsyncIterator, Mapping
from typing import Any

from se_server.streams import awaitables, aws, responses, results
from se_server.streams.blocking import BlockingIterator
from se_server.streams.closing import abandon, close_all, closer_of, exit_of, note_left
from se_server.streams.finished import finished_events
from se_server.streams.forms import Blocking, Closer, Events, Form, Pending, identity, list_events, name_of
from se_server.streams.refusing import is_client, refuse
from se_server.streams.takeover import takeover_of

log = logging.getLogger("se_server.session")

# An awaitable of a manager of a response of a stream is four; more is a circle.
MAX_STEPS = 16


def race(opening: Any, hedge: Any) -> Pending:
    """Take the result of `first_of`."""
    opening.is_race = True
    opening.closers.append(closer_of(hedge))
    return Pending(hedge.start(opening))


FORMS: Mapping[tuple[str, str], Form] = {
    **responses.FORMS,
    **results.FORMS,
    **aws.FORMS,
    ("se_server", "FirstOf"): race,  # by its name, too: its module needs this one
}
"""The forms of packages, by the top-level module and the name of a class or of one of its bases."""


class Opening:
    """An answer's stream on its way to an iterator, and what has to be closed after it.

    Attributes:
        source: The object that user code passed.
        takes_over: Whether a package's stream may be read from its HTTP response, without the package's objects.
        iterator: The iterator of events, None until `open` has been awaited.
        closers: What closes what was opened so far; the last is called first, after the iterator is closed.
        first_closers: What stops the run behind the iterator, whose own end would wait for the run.
        is_race: Whether the object is a race of streams, which are read by the same rules as this one.
        options: The keywords of `Stream.read_by` for a race.
        turn, clock, close_s: Those of the stream, for a race; set before `open`.

    Raises:
        TypeError: the object is nothing that can be spoken; it is closed all the same.
    """

    __slots__ = (
        "_current",
        "_pending",
        "_steps",
        "clock",
        "close_s",
        "closers",
        "first_closers",
        "is_race",
        "iterator",
        "options",
        "source",
        "takes_over",
        "turn",
    )

    def __init__(self, response: object, takes_over: bool = True) -> None:
        self.source = response
        self.takes_over = takes_over
        self.iterator: AsyncIterator[Any] | None = None
        self.closers: list[Closer] = []
        self.first_closers: list[Closer] = []
        self.is_race = False
        self.options: dict[str, Any] = {}
        self._current = response
        self._pending: Any = None
        self._steps = 0
        self._look()

    async def open(self) -> AsyncIterator[Any]:
        """Await and enter what has to be, in this task, and return the iterator."""
        while self.iterator is None:
            pending = self._pending
            # It stays noted while it is awaited: `close` cancels a task that outlives its own cancellation.
            self._current = await pending
            self._pending = None
            self._look()
        return self.iterator

    def _look(self) -> None:
        while self._steps < MAX_STEPS:
            self._steps += 1
            if self.takes_over and (taken := takeover_of(self._current)) is not None:
                self.closers.append(closer_of(self._current))
                self.iterator = taken
                return
            found = form_of(self._current)(self, self._current)
            if isinstance(found, Events):
                self.iterator = found.iterator
                return
            if isinstance(found, Blocking):
                self.iterator = BlockingIterator(found.source)
                return
            if isinstance(found, Pending):
                self._pending = found.awaitable
                return
            self._current = found
        refuse(self._current)

    def stop(self) -> None:
        """Stop the run behind the iterator, since nobody hears its text any more."""
        closers, self.first_closers = self.first_closers, []
        for close in closers:
            try:
                close(None)
            except Exception as error:
                log.warning("stopping %s failed: %s: %s", name_of(self.source), type(error).__name__, error)

    async def close(
        self,
        timeout_s: float,
        *,
        error: BaseException | None = None,
        is_whole: bool = False,
        is_lost: bool = False,
        found: list[Closer] | None = None,
    ) -> int:
        """Close everything in this task, and return how much of it had to be left to itself.

        Args:
            timeout_s: how long it may take together.
            error: what ended the stream, for context managers.
            is_whole: the iterator has come to its end.
            is_lost: the iterator still runs in a task of its own, since it did not heed its cancellation.
            found: what was open underneath when the time of the event in progress was up.
        """
        self.stop()
        closers = [*(found or ()), *self.closers]
        if is_lost:
            note_left(self.source)
        if self.iterator is not None and not is_lost:
            closers.append(closer_of(self.iterator))
        pending, self._pending = self._pending, None
        if pending is not None and not is_lost:
            closers.append(lambda error: abandon(pending))
        source = None if is_whole else (self._current, self.iterator)
        return is_lost + await close_all(closers, source, timeout_s, error)


def is_plain_generator(generator: object) -> bool:
    """Whether an async generator is iterated as it is: all are but those of an HTTP response's body."""
    return form_of_generator(generator) is None


def form_of_generator(generator: object) -> Form | None:
    """Return the form of an async generator that a package made, None for all others."""
    return responses.form_of_generator(generator) or results.form_of_generator(generator)


def form_of(value: object) -> Form:
    """Return the form of an object, by its class alone."""
    kind = type(value)
    for base in kind.__mro__:
        form = FORMS.get(identity(base))
        if form is not None:
            return form
    if inspect.isasyncgen(value):
        return form_of_generator(value) or iterate
    if hasattr(kind, "__aiter__"):
        return iterate
    if is_client(value):
        # Many are context managers, and leaving one would close it for all conversations; others iterate over fields.
        return refuse_form
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        return enter
    if inspect.isawaitable(value):
        return wait
    if isinstance(value, (str, UserString)):
        return whole
    if isinstance(value, bytes):
        return refuse_form
    if isinstance(value, (list, tuple)):
        return sequence
    return finished


def iterate(opening: Any, value: Any) -> Events:
    """Take an async iterable."""
    iterator = value.__aiter__()
    if not hasattr(type(iterator), "__anext__"):
        raise TypeError(
            f"{type(value).__name__}.__aiter__ returned {type(iterator).__name__}, which is not an async iterator"
        )
    if iterator is not value:
        opening.closers.append(closer_of(value))
    return Events(iterator)


def enter(opening: Any, manager: Any) -> Pending:
    """Take an async context manager that was not entered."""

    async def entering() -> object:
        entered = await type(manager).__aenter__(manager)
        opening.closers.append(exit_of(manager))
        if entered is None or form_of(entered) is enter:
            refuse(manager)
        return entered

    return Pending(entering())


def wait(opening: Any, awaitable: Any) -> Pending:
    """Take a coroutine, a task, a future."""
    if awaitables.is_in_thread(awaitable):
        return Pending(awaitables.keep(awaitable))
    return Pending(awaitable)


def whole(opening: Any, text: str | UserString) -> Events:
    """Take a text that something awaited gave."""
    return list_events([text if isinstance(text, str) else str(text)])


def sequence(opening: Any, values: Any) -> Events:
    """Take a list of texts or events; no thread is needed for it."""
    return list_events(values)


def refuse_form(opening: Any, value: Any) -> object:
    """Refuse what nothing can be made of."""
    return refuse(value)


def finished(opening: Any, value: Any) -> object:
    """Take a result that was not streamed, or anything that blocks; refuse all else."""
    if isinstance(value, dict):
        stream = aws.stream_of(value)
        if stream is not None:
            return stream if aws.is_event_stream(stream) else Blocking(stream)
    events = finished_events(value)
    if events is not None:
        return list_events(events)
    kind = type(value)
    blocks = hasattr(kind, "__next__") or hasattr(kind, "__iter__") or hasattr(kind, "__enter__")
    # The fields of a pydantic model, the ancestors of a path, are no events.
    has_members = hasattr(kind, "model_dump") or hasattr(kind, "__fspath__")
    if not blocks or has_members or isinstance(value, (Mapping, set, frozenset, bytearray, memoryview, type)):
        refuse(value)
    return Blocking(value)
