from asyncio import AbstractEventLoop, BufferedProtocol, Future, Protocol, Transport
from collections.abc import Callable
from typing import Any, final

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.conversation._outbox import Outbox
from se_server.conversation.deadlines import LAST_LOOK_S as LAST_LOOK_S
from se_server.conversation.deadlines import Deadlines
from se_server.conversation.settings import SessionSettings

@disjoint_base
class SocketOutbox(Outbox):
    """Messages as WebSocket text frames, written straight to the socket while the transport holds nothing back."""
    def __init__(self, transport: Transport, fd: int) -> None: ...

@final
class Shared:
    """The values and objects that all connections of one door share.

    Args:
        loop: the running loop.
        settings: limits and times.
        silent, unanswered: of connections, for their first message and for the answer to a ping.
        on_gone: called once with each connection and its session, when its socket is gone.
    """
    def __init__(
        self,
        loop: AbstractEventLoop,
        settings: SessionSettings,
        silent: Deadlines[Connection],
        unanswered: Deadlines[Connection],
        on_gone: Callable[[Connection, Any], None],
    ) -> None: ...

@final
class FrameGate(BufferedProtocol):
    """The protocol of an accepted socket: of HTTP until the upgrade, then each frame is checked and read.

    It stays the transport's protocol throughout: for another one uvloop would unregister the socket and register it.

    Args:
        shared: of the door's connections.
        http: called until `Connection.start`.
    """

    data_received: None
    def __init__(self, shared: Shared, http: Protocol) -> None: ...

@disjoint_base
class Connection:
    """One WebSocket of our own transport.

    Args:
        shared: what it has in common with others.
        gate: the protocol of its transport.
        transport: an asyncio transport whose upgrade request was accepted; its 101 is sent here.
        fd: of its socket, to write to without a detour; -1 if the bytes are the transport's affair, as with TLS.
    """
    def __init__(self, shared: Shared, gate: FrameGate, transport: Transport, fd: int) -> None: ...
    session: Any  # a SessionCore, or a ServedWebSocket
    active: bool  # something arrived since the last look
    group: int  # of the keep-alive
    @property
    def outbox(self) -> SocketOutbox:
        """The writing side."""
    @property
    def ending(self) -> tuple[int, str]:
        """The code and the reason of the first CLOSE, whichever side sent it; 1006 if there was none."""
    @property
    def deaf(self) -> bool:
        """Whether nothing that arrives matters any more."""
    @property
    def max_message_bytes(self) -> int:
        """The largest message accepted, in bytes."""
    def start(self, session: Any, websocket_key: bytes, tail: bytes) -> None:
        """Answer the upgrade, take the socket over and read what came behind the head."""
    def close(self, code: int, reason: str) -> None:
        """Start the close handshake; the socket goes when the peer answers, or after the close timeout."""
    def abort(self) -> None:
        """Drop the socket without waiting for anything."""
    on_raw: Callable[[str | bytes], object] | None  # called with each message as it came, which is then not decoded
    is_full: bool  # `on_raw` has been given enough: nothing is read meanwhile
    def leave(self) -> None:
        """Do the work of a lost socket, in a later step."""
    def start_reading(self) -> bool:
        """Nothing to start: what arrives is pushed."""
    def bind(self, loop: AbstractEventLoop) -> None:
        """Nothing to bind: it belongs to its loop from the start."""
    def finish(self) -> None:
        """Close with 1000: the conversation has ended as it should."""
    def send_text(self, text: bytes) -> None:
        """Send a text message that is no part of an answer."""
    def wait_closed(self) -> Future[None]:
        """Return a future that is done when the socket is gone."""
    def look(self) -> None:
        """One of four looks an interval: ping if nothing went either way for three of them."""
    def miss_message(self) -> None:
        """The first message has not come in time."""
    def miss_pong(self) -> None:
        """A ping was not answered in time."""
    @property
    def is_gone(self) -> bool:
        """Whether the socket is gone."""
    @property
    def fd(self) -> int:
        """The descriptor of the socket; -1 if it is gone, or the transport's affair."""
    def pause_writing(self) -> None:
        """Stop answers until the transport holds less."""
    def resume_writing(self) -> None:
        """Let answers go on."""
