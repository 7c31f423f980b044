"""The streams of events to browsers, and the conversations that their tabs hold.

A browser opens at most six connections to one host, and a stream occupies one. So all tabs of a browser share a
listener: one stream, whose events name their conversation. When the stream ends, the conversations end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from se_server.playground.choices import TalkOptions
from se_server.playground.ledger import Ledger
from se_server.playground.server_side import ServerSide
from se_server.playground.talk import Talk

MAX_LISTENERS = 32
MAX_TALKS = 64
MAX_QUEUED_BYTES = 16 * 1024 * 1024
KEEPALIVE_S = 10.0


class HubFull(Exception):
    """There are as many conversations or browsers as the playground takes; the text says so."""


class Listener:
    """One stream of events.

    Attributes:
        talks: the conversations whose events it carries, by key, also those that are over.
    """

    def __init__(self) -> None:
        self.talks: dict[str, Talk] = {}
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queued_bytes = 0

    def put(self, event: dict[str, Any]) -> None:
        """Queue an event. A browser that does not read loses its stream, and begins again."""
        data = b"data: " + orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"
        self._queued_bytes += len(data)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self.end()
        else:
            self._queue.put_nowait(data)

    def end(self) -> None:
        """End the stream."""
        self._queue.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events until the end."""
        while True:
            try:
                data = await asyncio.wait_for(self._queue.get(), KEEPALIVE_S)
            except asyncio.TimeoutError:
                yield b": still here\n\n"
                continue
            if data is None:
                return
            self._queued_bytes -= len(data)
            yield data


class Hub:
    """All browsers and their conversations.

    Args:
        server: the server that conversations are held with.
        ledger: knows the server's side of a turn.
    """

    def __init__(self, server: ServerSide, ledger: Ledger) -> None:
        self._server = server
        self._ledger = ledger
        self._listeners: dict[str, Listener] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._is_stopping = False

    def listen(self, name: str) -> Listener:
        """Begin a stream; one of the same name ends.

        Raises:
            HubFull: there are too many.
        """
        if self._is_stopping or (name not in self._listeners and len(self._listeners) >= MAX_LISTENERS):
            raise HubFull(f"{MAX_LISTENERS} browsers have the playground open: close one")
        self.forget(name)
        self._listeners[name] = Listener()
        return self._listeners[name]

    def forget(self, name: str, listener: Listener | None = None) -> None:
        """End a stream and its conversations; with `listener`, only if the name is still its own."""
        found = self._listeners.get(name)
        if found is None or (listener is not None and found is not listener):
            return
        del self._listeners[name]
        found.end()
        for key in list(found.talks):
            self._end(found, key)

    def is_listening(self, name: str) -> bool:
        """Return whether there is a stream of this name."""
        return name in self._listeners

    def begin(self, name: str, key: str, options: TalkOptions) -> Talk:
        """Begin a conversation whose events go to a listener.

        Raises:
            HubFull: there are too many conversations.
            KeyError: there is no such listener.
        """
        listener = self._listeners[name]
        if key in listener.talks:
            self._end(listener, key)
        if len(self._runs) >= MAX_TALKS:
            raise HubFull(f"{MAX_TALKS} conversations of the playground are open: close a tab")
        talk = Talk(key, options, self._server, self._ledger, listener.put)
        listener.talks[key] = talk
        task = asyncio.get_running_loop().create_task(talk.run())
        self._runs[key] = task
        task.add_done_callback(lambda _: self._runs.pop(key, None) if self._runs.get(key) is task else None)
        return talk

    def talk(self, key: str) -> Talk:
        """Return a conversation.

        Raises:
            KeyError: there is none of this key.
        """
        for listener in self._listeners.values():
            if key in listener.talks:
                return listener.talks[key]
        raise KeyError(key)

    def end(self, key: str) -> None:
        """End a conversation and forget it."""
        for listener in self._listeners.values():
            if key in listener.talks:
                self._end(listener, key)
                return

    def _end(self, listener: Listener, key: str) -> None:
        talk = listener.talks.pop(key)
        talk.close()

    def tell_all(self, kind: str, **fields: Any) -> None:
        """Tell all browsers of something that concerns no single conversation."""
        for listener in self._listeners.values():
            listener.put({"kind": kind, **fields})

    def close_all(self) -> None:
        """Let all callers hang up; their pages keep what was said."""
        for listener in self._listeners.values():
            for talk in listener.talks.values():
                talk.close()

    @property
    def open_talks(self) -> int:
        """The number of open conversations."""
        return len(self._runs)

    async def stop(self) -> None:
        """End all streams and conversations."""
        self._is_stopping = True
        for name in list(self._listeners):
            self.forget(name)
        await asyncio.gather(*self._runs.values(), return_exceptions=True)
