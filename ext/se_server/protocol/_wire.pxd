"""bytes -> Message; Message -> bytes of a WebSocket text frame. No I/O, no clock, no asyncio."""

cdef enum Kind:
    UNKNOWN = 0
    INIT = 1
    USER_TRANSCRIPT = 2
    PING = 3
    CLOSE = 4
    ERROR = 5


cdef class Message:
    cdef readonly int kind
    cdef readonly object event_id         # int | None, of a user_transcript
    cdef readonly str conversation_id     # of an init
    cdef readonly list transcript         # list[ConversationMessage], of a user_transcript; a new list each time
    cdef readonly object bad_entry        # MessageError | None: the first transcript entry that was left out
    cdef readonly str text                # of an error: its message; of an unknown message: its type, if it is a string


cdef class History:
    """What one session keeps of its last transcript, so that an unchanged beginning is not built again."""
    cdef bytes _raw
    cdef list _messages


# Reads a message in place; nothing of `data` is kept but what `history` copies. `history` may be None.
cdef Message decode_message(const char* data, Py_ssize_t size, History history)


cdef class Buffer:
    """Bytes to write, reused: a growing buffer of whole messages."""
    cdef char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef int reserve(self, Py_ssize_t extra) except -1
    # `event_id_json` is the id as JSON, made once a turn: b"26", or b"null".
    cdef int put_agent_response_frame(self, str content, bytes event_id_json, bint is_final) except -1
    cdef int put_pong_frame(self) except -1
    cdef bytes take(self)                 # the bytes so far; the buffer is empty afterwards


# Checks UTF-8 (Unicode table 3-7) from `state` on, so that a text may come in pieces.
# Returns the state after it: UTF8_ACCEPT at a character's end, UTF8_REJECT for good once invalid, else in a character.
cdef enum:
    UTF8_ACCEPT = 0
    UTF8_REJECT = 1

cdef unsigned int utf8_check(unsigned int state, const unsigned char* data, Py_ssize_t size) noexcept nogil
