"""Decides what an answer's stream is, by its type alone: nothing is awaited here."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator


def iterator_of(response: object) -> AsyncIterator[object]:
    """Return the async iterator of an answer.

    Raises:
        TypeError: `response` is not an async iterable; the text says what is accepted.
    """
    if inspect.iscoroutine(response):
        response.close()
        raise TypeError("send_response takes a str or an async iterable, not a coroutine: await the call that makes it")
    iterate = getattr(type(response), "__aiter__", None)
    if iterate is None:
        raise TypeError(f"send_response takes a str or an async iterable, not {type(response).__name__}")
    iterator: AsyncIterator[object] = iterate(response)
    if not hasattr(type(iterator), "__anext__"):
        raise TypeError(
            f"{type(response).__name__}.__aiter__ returned {type(iterator).__name__}, which is not an async iterator"
        )
    return iterator
