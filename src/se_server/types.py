"""Types that the layers share: messages, event names, the upgrade request, and Protocols of foreign objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from se_server._message import ConversationMessage as ConversationMessage
from se_server.telemetry.counters import Counters as Counters

INIT: Final = "init"
"""The first message of a conversation has come: `(conversation_id)`."""
USER_TRANSCRIPT: Final = "user_transcript"
"""The user has spoken: `(transcript)`."""
CLOSE: Final = "close"
"""The conversation has ended as it should: `()`."""
DISCONNECTED: Final = "disconnected"
"""The connection was lost: `()`."""
ERROR: Final = "error"
"""Something could not be read or done: `(error)`."""
INTERRUPTED: Final = "interrupted"
"""A newer transcript has superseded an answer: `(turn)`."""

EventName = Literal["init", "user_transcript", "close", "disconnected", "error", "interrupted"]
"""The name of an event, as type checkers know it."""

EVENTS = (INIT, USER_TRANSCRIPT, CLOSE, DISCONNECTED, ERROR, INTERRUPTED)

Handler = Callable[..., Awaitable[object] | object]
"""A function of the user for an event: plain or a coroutine function."""


class Headers(Mapping[str, str]):
    """HTTP headers of the upgrade request: a mapping whose names match in any case.

    Looking up a repeated name returns its first value; `getall` returns all of them. The headers are one `bytes`
    object, parsed at each look-up, because an idle conversation should use little memory.

    Args:
        block: `name: value` lines as received, each with a line feed at its end, with or without a carriage return.
    """

    __slots__ = ("_block",)

    def __init__(self, block: bytes = b"") -> None:
        self._block = block

    @classmethod
    def of(cls, pairs: Iterator[tuple[bytes, bytes]] | list[tuple[bytes, bytes]]) -> Headers:
        """Make headers from raw (name, value) pairs, in the order received."""
        return cls(b"".join(b"%b:%b\n" % pair for pair in pairs))

    def items_raw(self) -> Iterator[tuple[str, str]]:
        """Yield every header as received, repeated names included."""
        for line in self._block.split(b"\n")[:-1]:
            name, _, value = line.partition(b":")
            yield name.decode("latin-1"), value.strip().decode("latin-1")

    def getall(self, name: str) -> list[str]:
        """Return all values of `name`, in the order received."""
        wanted = name.lower().encode("latin-1", "replace")
        # A request that lacks the header, which is the usual case, costs no splitting.
        if wanted not in self._block.lower():
            return []
        found = []
        for line in self._block.split(b"\n")[:-1]:
            given, _, value = line.partition(b":")
            if len(given) == len(wanted) and given.lower() == wanted:
                found.append(value.strip().decode("latin-1"))
        return found

    def without(self, name: str) -> Headers:
        """Return the headers without those of a name."""
        wanted = b"\n" + name.lower().encode("latin-1", "replace") + b":"
        block = b"\n" + self._block
        while (place := block.lower().find(wanted)) >= 0:
            block = block[:place] + block[block.index(b"\n", place + 1) :]
        return Headers(block[1:])

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


@dataclass(frozen=True, slots=True)
class Request:
    """The upgrade request of a conversation: its per-call context.

    Attributes:
        path: the path without its query, as sent.
        query: the part after the `?`, as sent; empty if there is none.
        headers: the request's headers.
        remote: the client's address, `host:port`, or only the host if a proxy named no port; empty if unknown.
        path_params: the values of the parameters of the route's path, decoded; None without parameters.
        route: the name of the route; empty for a server that has one without a name.
    """

    path: str
    query: str
    headers: Headers
    remote: str
    path_params: Mapping[str, str] | None = None
    route: str = ""

    def __repr__(self) -> str:
        # A query may hold tokens and callers' secrets.
        query = "?..." if self.query else ""
        return f"<Request {self.path!r}{query} from {self.remote or 'an unknown address'}, {self.headers!r}>"


NO_REQUEST = Request("", "", Headers(), "")


class TokenUsage(Protocol):
    """The tokens of an LLM's answer; None where the stream did not count them."""

    @property
    def input_tokens(self) -> int | None: ...

    @property
    def output_tokens(self) -> int | None: ...


class WebSocketLike(Protocol):
    """The methods of any other WebSocket that `create_session` accepts."""

    async def recv(self) -> str | bytes:
        """Wait for the next message; raise at the end of the connection."""
        ...

    async def send(self, data: str, /) -> Any:
        """Send a text message."""
        ...

    async def close(self) -> Any:
        """Close the WebSocket."""
        ...


Stats = Counters
"""The counters of conversations."""
