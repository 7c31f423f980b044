"""The interface of a connection: a conversation sends to `Link` and gets `LinkEvents`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from se_server.simulator.calls import Action, Event, Said


@dataclass(frozen=True)
class Ended:
    """The end of a conversation's connection.

    Attributes:
        code: the server's close code; None without a CLOSE frame, or for one without a code.
        reason: the server's close reason, often empty; or the fault in the server's frames.
        by_server: whether the server ended the connection.
        is_clean: whether a CLOSE frame arrived before the connection ended.
        by_habit: the reason why the API ended the conversation by a habit; empty otherwise.
    """

    code: int | None
    reason: str
    by_server: bool
    is_clean: bool
    by_habit: str = ""

    def __str__(self) -> str:
        if self.by_habit:
            return f"the API ended the conversation: {self.by_habit}"
        if not self.by_server:
            return "the caller hung up"
        if not self.is_clean:
            return self.reason or "the connection was lost"
        details = " ".join(str(detail) for detail in (self.code, self.reason) if detail)
        return f"the server closed the conversation ({details})" if details else "the server closed the conversation"


class Link(Protocol):
    """One connection to the server, from the API's side. Its methods neither block nor raise."""

    def send(self, message: str | bytes, *, is_joined: bool = False) -> None:
        """Send a whole message: str as a text message, bytes as a binary one.

        Args:
            message: the message.
            is_joined: whether the next message leaves in the same packet, where the link has packets.
        """

    def close(self, code: int) -> None:
        """Begin the WebSocket's close handshake once all earlier messages are sent."""

    def drop(self) -> None:
        """Drop the connection without a close handshake."""

    def reset(self) -> None:
        """Reset the TCP connection."""


class LinkListener(Protocol):
    """The receiver of a link's events."""

    def on_message(self, message: str | bytes) -> None: ...

    def on_traffic(self, kind: str) -> None: ...

    def on_gone(self, code: int | None, reason: str, is_clean: bool) -> None: ...


class LinkEvents:
    """The events of one link, reported to its conversation on the loop. Each connection has its own instance."""

    def __init__(self, listener: LinkListener) -> None:
        self._listener = listener
        self.is_live = True

    def received(self, message: str | bytes) -> None:
        """Report a whole message. Does not raise."""
        if self.is_live:
            self._listener.on_message(message)

    def traffic(self, kind: str = "ping") -> None:
        """Report traffic that is not a message, such as a WebSocket ping; it keeps an idle connection alive."""
        if self.is_live:
            self._listener.on_traffic(kind)

    def gone(self, code: int | None = None, reason: str = "", *, is_clean: bool = False) -> None:
        """Report the end of the connection; call it once, also after `close`, `drop` and `reset`.

        Args:
            code: the server's close code, if any.
            reason: the server's close reason, or the fault in its frames.
            is_clean: whether the server sent a CLOSE frame.
        """
        if self.is_live:
            self.is_live = False
            self._listener.on_gone(code, reason, is_clean)


Connect = Callable[[LinkEvents], Awaitable[Link]]
"""A function that opens a connection and reports its events; it raises `CallerError` if the connection is refused."""

Happening = Event | Said | Action | Ended
OnEvent = Callable[[Happening], None]
"""A function called synchronously with each utterance, message and habit's action, and last with the `Ended`."""
