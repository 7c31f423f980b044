"""Between a conversation and what carries it: the link it sends on, the line it hears on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from se_server.simulator.calls import Action, Event, Said


@dataclass(frozen=True)
class Ended:
    """How the connection ended.

    Attributes:
        code: the close code that the server sent; None when it sent no CLOSE frame, or one without a code.
        reason: its reason, often empty; or what was wrong with the server's frames.
        by_server: whether the server began it.
        is_clean: whether a CLOSE frame came before the connection went.
        by_habit: why the API ended the conversation without being told to; empty otherwise.
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
    """One connection to the server, from the API's side. Nothing in it waits, and nothing raises."""

    def send(self, message: str | bytes) -> None:
        """Send a whole message: text as a text message, bytes as a binary one."""

    def close(self, code: int) -> None:
        """Begin the WebSocket's close handshake, after all that was sent."""

    def drop(self) -> None:
        """End the connection without a word."""

    def reset(self) -> None:
        """End the connection as a TCP reset does."""


class LineListener(Protocol):
    """Whom a line tells."""

    def on_message(self, message: str | bytes) -> None: ...

    def on_traffic(self, kind: str) -> None: ...

    def on_gone(self, code: int | None, reason: str, is_clean: bool) -> None: ...


class Line:
    """What a link tells its conversation, on the conversation's loop. Each connection gets one of its own."""

    def __init__(self, listener: LineListener) -> None:
        self._listener = listener
        self.is_live = True

    def received(self, message: str | bytes) -> None:
        """A whole message came. Never raises."""
        if self.is_live:
            self._listener.on_message(message)

    def traffic(self, kind: str = "ping") -> None:
        """Something that is no message came, such as a WebSocket ping; it keeps an idle connection alive."""
        if self.is_live:
            self._listener.on_traffic(kind)

    def gone(self, code: int | None = None, reason: str = "", *, is_clean: bool = False) -> None:
        """The connection is gone; to be called once, also after `close`, `drop` and `reset`.

        Args:
            code: the close code the server sent, if it sent one.
            reason: the reason that it gave, or what was wrong with what it sent.
            is_clean: whether the server sent a CLOSE frame.
        """
        if self.is_live:
            self.is_live = False
            self._listener.on_gone(code, reason, is_clean)


Connect = Callable[[Line], Awaitable[Link]]
"""Makes a connection that tells the line what happens; raises `CallerError` when there is none to be had."""

Happening = Event | Said | Action | Ended
OnEvent = Callable[[Happening], None]
"""Called in place with what was said, everything that came, what a habit did, and last how the conversation ended."""
