from asyncio import AbstractEventLoop, BufferedProtocol, Future, Transport
from collections.abc import Callable
from typing import final

from picows import WSFrame, WSListener, WSTransport
from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.conversation._pump import Outbox
from se_server.conversation.core import SessionCore
from se_server.conversation.settings import SessionSettings

@disjoint_base
class SocketOutbox(Outbox):
    """Messages as WebSocket text frames, written straight to the socket while the transport holds nothing back."""
    def __init__(self, transport: Transport) -> None: ...

@final
class FrameGate(BufferedProtocol):
    """Feeds picows one checked frame at a time."""
    def __init__(self, protocol: BufferedProtocol, connection: Connection) -> None: ...

@disjoint_base
class Connection(WSListener):
    """One WebSocket of our own transport.

    Args:
        loop: the running loop.
        transport: an asyncio transport whose upgrade request was accepted; its 101 is sent here.
        settings: limits and times.
        on_gone: called once, when the socket is gone.
    """
    def __init__(
        self,
        loop: AbstractEventLoop,
        transport: Transport,
        settings: SessionSettings,
        on_gone: Callable[[], None],
    ) -> None: ...
    session: SessionCore
    active: bool  # something arrived since the last look
    @property
    def outbox(self) -> SocketOutbox: ...
    @property
    def ending(self) -> tuple[int, str]:
        """The code and the reason of the first CLOSE, whichever side sent it; 1006 if there was none."""
    @property
    def deaf(self) -> bool: ...
    @property
    def max_message_bytes(self) -> int: ...
    def start(self, session: SessionCore, websocket_key: bytes, tail: bytes) -> None:
        """Answer the upgrade, take the socket over and read what came behind the head."""
    def close(self, code: int, reason: str) -> None:
        """Start the close handshake; the socket goes when the peer answers, or after the close timeout."""
    def abort(self) -> None:
        """Drop the socket without waiting for anything."""
    def start_reading(self) -> None:
        """Nothing to start: what arrives is pushed."""
    def wait_closed(self) -> Future[None]:
        """Return a future that is done when the socket is gone."""
    def look(self) -> None:
        """One of four looks an interval: ping if nothing went either way for three of them."""
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
