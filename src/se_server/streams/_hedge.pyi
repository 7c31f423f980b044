from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from typing import Any

from typing_extensions import disjoint_base

from se_server.streams._sink import Sink
from se_server.streams._source import Source

@disjoint_base
class Collector(Sink):
    """The sink of one contender: it keeps the texts until they are taken, and its stream waits when they are many."""
    def __new__(cls) -> Collector: ...
    @property
    def has_ended(self) -> bool:
        """Whether no more text comes."""
    @property
    def error(self) -> BaseException | None:
        """The exception that ended the stream, or None."""
    @property
    def is_heard(self) -> bool:
        """Whether there was something to speak: blanks and punctuation alone are not heard."""
    def end(self, error: BaseException | None = None) -> None:
        """Note the end of the stream."""
    def take(self) -> list[str]:
        """Return the texts so far, and keep none."""
    def news(self) -> Future[None]:
        """Return a future that is done when there are texts to speak, or the stream has ended."""

@disjoint_base
class Texts(Source, AsyncIterator[Any]):
    """An iterator of lists of texts, which are spoken as they are.

    Args:
        generator: gives the lists, and is closed with the iterator.
    """
    def __new__(cls, generator: AsyncGenerator[list[str]]) -> Texts: ...
    def __aiter__(self) -> Texts: ...
    def __anext__(self) -> Awaitable[Any]: ...
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Close the generator."""
