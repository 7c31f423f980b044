from typing import Any, Final, final

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
    """One message of the API, read. What does not belong to its kind is None.

    Attributes:
        kind: one of the constants above; UNKNOWN for a type that is unknown, absent or no string.
        event_id: of a `user_transcript`, if it has one: an integer, or any other JSON value as it came.
        event_id_json: the same as JSON, `null` if it has none.
        said: of a `user_transcript`: the text of its last user message, if it has one.
        conversation_id: of an `init`, if it has one: a text, or any other JSON value as it came.
        transcript: of a `user_transcript`: a new list each time, empty if the message has none.
        bad_entry: the first entry, counted from 0, that was left out of `transcript`, and why; on every message that
            holds one, so that who listens decides what is news.
        text: of an `error`: its message, empty if it has none; of an UNKNOWN: its type, if that is a string.
    """

    @property
    def kind(self) -> int:
        """One of the constants above."""
    @property
    def event_id(self) -> Any:
        """The id of a `user_transcript`."""
    @property
    def event_id_json(self) -> bytes | None:
        """The same as JSON."""
    @property
    def said(self) -> str | None:
        """The last user message of a `user_transcript`."""
    @property
    def conversation_id(self) -> Any:
        """The id of an `init`."""
    @property
    def transcript(self) -> list[ConversationMessage] | None:
        """The messages of a `user_transcript`."""
    @property
    def bad_entry(self) -> MessageError | None:
        """The first entry that was left out, and why."""
    @property
    def text(self) -> str | None:
        """The message of an `error`; the type of an unknown message."""

@final
class History:
    """The messages of a session's last transcript, kept so that an unchanged beginning is not built again.

    What `decode` returns is the same with and without it. Of a transcript's entries it keeps those within the first MiB
    of bytes, and within one MiB of messages made of them.

    Args:
        max_message_bytes: the largest message; a transcript whose texts take half as much again in memory is an error.
            0: no limit.
    """

    def __new__(cls, max_message_bytes: int = 0) -> History: ...
    @property
    def size_bytes(self) -> int:
        """Bytes of memory kept; counted at each read."""

    def take_decoded(self) -> int:
        """Return the number of entries that were decoded, and not found unchanged, since the last call."""

def decode(data: bytes | bytearray | memoryview, history: History | None = None) -> Message:
    """Read one message.

    Args:
        data: a whole JSON message, UTF-8, in contiguous memory; nothing of it is kept.
        history: what the last transcript of the same session left; unchanged messages at the start are reused.

    Raises:
        MessageError: `data` is not a valid message; names what is wrong and the byte offset. Text that is not UTF-8 is
            reported as that whatever else is wrong, then JSON (RFC 8259, at most MAX_DEPTH levels), then the fields.
        TypeError: `data` is not bytes.
    """

def encode_agent_response(content: str, event_id: int | None, is_final: bool) -> bytes:
    """Return an `agent_response` as compact JSON in UTF-8; lone surrogates become U+FFFD.

    Halves of a character that were cut apart and stand next to each other again are joined.
    """

def encode_pong() -> bytes:
    """Return a `pong` as compact JSON."""

@final
class Buffer:
    """Whole server WebSocket text frames, one after another, in memory that is reused."""
    def put_agent_response(self, content: str, event_id: int | None, is_final: bool) -> None:
        """Append the frame of an `agent_response`."""
    def put_pong(self) -> None:
        """Append the frame of a `pong`."""
    def take_bytes(self) -> bytes:
        """Return the frames so far and empty the buffer."""
    def __len__(self) -> int: ...

def utf8_state(data: bytes, state: int = 0) -> int:
    """Check UTF-8 in pieces: 0 at a character's end, 1 once invalid, any other number inside a character."""
