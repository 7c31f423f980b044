from typing import Final, final

from se_server.errors import MessageError
from se_server.types import ConversationMessage

UNKNOWN: Final = 0
INIT: Final = 1
USER_TRANSCRIPT: Final = 2
PING: Final = 3
CLOSE: Final = 4
ERROR: Final = 5

MAX_DEPTH: Final[int]

@final
class Message:
    @property
    def kind(self) -> int: ...
    @property
    def event_id(self) -> int | None: ...
    @property
    def conversation_id(self) -> str | None: ...
    @property
    def transcript(self) -> list[ConversationMessage] | None: ...
    @property
    def bad_entry(self) -> MessageError | None: ...
    @property
    def text(self) -> str | None: ...

@final
class History:
    """What one session keeps of its last transcript, so that an unchanged beginning is not built again."""
    @property
    def size_bytes(self) -> int: ...

def decode(data: bytes | bytearray | memoryview, history: History | None = None) -> Message:
    """Read one message.

    Args:
        data: a whole JSON message, UTF-8.
        history: what the last transcript of the same session left; unchanged messages at the start are reused.

    Raises:
        MessageError: `data` is no valid message; names what is wrong and the byte offset.
    """

def encode_agent_response(content: str, event_id: int | None, is_final: bool) -> bytes:
    """Return an `agent_response` as compact JSON in UTF-8; lone surrogates become U+FFFD."""

def encode_pong() -> bytes:
    """Return a `pong` as compact JSON."""

@final
class Buffer:
    """Whole server WebSocket text frames, one after another, in memory that is reused."""
    def put_agent_response(self, content: str, event_id: int | None, is_final: bool) -> None: ...
    def put_pong(self) -> None: ...
    def take_bytes(self) -> bytes:
        """Return the frames so far and empty the buffer."""
    def __len__(self) -> int: ...

def utf8_state(data: bytes, state: int = 0) -> int:
    """Check UTF-8 in pieces: 0 at a character's end, 1 once invalid, any other number inside a character."""
