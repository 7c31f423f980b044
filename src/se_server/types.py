"""The words the layers share: messages, event names, and Protocols for what a lower layer needs of a higher one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from se_server._message import ConversationMessage as ConversationMessage

INIT = "init"
USER_TRANSCRIPT = "user_transcript"
CLOSE = "close"
DISCONNECTED = "disconnected"
ERROR = "error"
INTERRUPTED = "interrupted"

EVENTS = (INIT, USER_TRANSCRIPT, CLOSE, DISCONNECTED, ERROR, INTERRUPTED)

Handler = Callable[..., Awaitable[object] | object]
"""A user's function for an event, plain or coroutine."""


class Headers(Mapping[str, str]):
    """HTTP headers of the upgrade request: a mapping whose names match in any case.

    A name that came several times gives its first value; `getall` gives them all. Kept as one `bytes` object, since
    an idle conversation should cost little, and parsed at each look-up.

    Args:
        block: `name:value` lines as they came, each ended by a line feed; neither may contain one.
    """

    __slots__ = ("_block",)

    def __init__(self, block: bytes = b"") -> None:
        self._block = block

    @classmethod
    def of(cls, pairs: Iterator[tuple[bytes, bytes]] | list[tuple[bytes, bytes]]) -> Headers:
        """Make headers from raw (name, value) pairs, in the order they came."""
        return cls(b"".join(b"%b:%b\n" % (name, value.strip()) for name, value in pairs))

    def items_raw(self) -> Iterator[tuple[str, str]]:
        """Give every header as it came, repeated names included."""
        for line in self._block.split(b"\n")[:-1]:
            name, _, value = line.partition(b":")
            yield name.decode("latin-1"), value.decode("latin-1")

    def getall(self, name: str) -> list[str]:
        """Return all values of `name`, in the order they came."""
        wanted = name.lower()
        return [value for given, value in self.items_raw() if given.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        for value in self.getall(name):
            return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self.items_raw()))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.items_raw()})

    def __repr__(self) -> str:
        # Values may hold tokens and callers' secrets: names only.
        return f"<Headers {', '.join(self)}>"


@dataclass(frozen=True)
class Request:
    """The upgrade request of a conversation: its per-call context.

    Attributes:
        path: the path without its query, as sent.
        query: what follows the `?`, as sent; empty when there is none.
        headers: the request's headers.
        remote: the client's address, `host:port`, without a port if a proxy named it without; empty when unknown.
    """

    __slots__ = ("headers", "path", "query", "remote")

    path: str
    query: str
    headers: Headers
    remote: str


NO_REQUEST = Request("", "", Headers(), "")


class WebSocketLike(Protocol):
    """What `create_session` accepts besides the libraries it knows by name."""

    async def recv(self) -> str | bytes: ...

    async def send(self, data: str, /) -> Any: ...

    async def close(self) -> Any: ...


@dataclass(slots=True)
class Counters:
    """Where conversations count what they do. Plain integers, written by one thread.

    Attributes:
        sessions_opened, sessions_closed: conversations; their difference is live now.
        turns_started, turns_answered, turns_superseded, turns_failed: what became of turns.
        turns_ended: started turns whose handlers have ended, strays included; the rest of the started ones runs now.
        transcripts_repeated: transcripts sent again while their turn was under way; skipped.
        transcripts_answered: transcripts sent again after their turn was answered; skipped.
        transcripts_superseded: transcripts sent again after their turn was superseded; answered with an empty final,
            or ignored.
        transcripts_adopted: transcripts of the same words, whose turn went on instead of starting anew.
        turns_timed_out: turns that took too long; among the failed ones.
        answers_too_long: answers that were cut; their turns are among the failed ones.
        first_words_sent, failure_texts_sent: texts that the server spoke in a handler's place.
        chunks_sent: `agent_response` messages that carried text.
        messages_received: whole messages of any kind.
        message_errors: messages, or transcript entries, that could not be read.
        handler_errors: exceptions that user code let out.
        stray_handlers: handlers that went on after they were cancelled, ever.
        late_texts: answers dropped because their turn was superseded.
        write_timeouts: peers dropped because they did not read.
    """

    sessions_opened: int = 0
    sessions_closed: int = 0
    turns_started: int = 0
    turns_answered: int = 0
    turns_superseded: int = 0
    turns_failed: int = 0
    turns_ended: int = 0
    transcripts_repeated: int = 0
    transcripts_answered: int = 0
    transcripts_superseded: int = 0
    transcripts_adopted: int = 0
    turns_timed_out: int = 0
    answers_too_long: int = 0
    first_words_sent: int = 0
    failure_texts_sent: int = 0
    chunks_sent: int = 0
    messages_received: int = 0
    message_errors: int = 0
    handler_errors: int = 0
    stray_handlers: int = 0
    late_texts: int = 0
    write_timeouts: int = 0


Stats = Counters
"""What a conversation is given to count in: whoever publishes the counts may subclass it."""
