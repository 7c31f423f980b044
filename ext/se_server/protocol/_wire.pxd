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
    cdef readonly object event_id         # of a user_transcript: int | None, or any other JSON value
    cdef readonly bytes event_id_json     # the same as JSON
    cdef readonly str said                # str | None: the text of the transcript's last user message
    cdef readonly object conversation_id  # of an init: str | None, or any other JSON value
    cdef readonly list transcript         # list[ConversationMessage], of a user_transcript; a new list each time
    cdef readonly object bad_entry        # MessageError | None: the first transcript entry that was left out
    cdef readonly str text                # of an error: its message; of an unknown message: its type, if it is a string


cdef class History:
    """The messages of a session's last transcript, kept so that an unchanged beginning is not built again."""
    cdef unsigned char* _raw              # the array's inside, up to the last kept entry's end
    cdef Py_ssize_t _raw_capacity
    cdef unsigned int* _ends              # of each entry, from the start of `_raw`
    cdef Py_ssize_t _ends_capacity
    cdef Py_ssize_t _count                # entries that are valid in `_raw`, `_ends` and `_messages`
    cdef list _messages                   # list[ConversationMessage | None]: None for an entry that was left out
    cdef Py_ssize_t _objects_bytes        # the memory of these messages
    cdef Py_ssize_t _text_limit           # of the messages of one transcript
    cdef Py_ssize_t _decoded              # entries read, and not found unchanged, since `take_decoded`
    cdef Py_ssize_t _bad_index            # the first entry that was left out, or -1
    cdef Py_ssize_t _bad_start            # its offset in `_raw`
    cdef Py_ssize_t place                 # where the entries began in the last transcript that was read
    cdef Py_ssize_t equal                 # bytes of entries that it had in common with the one before

    cdef Py_ssize_t _match(self, const unsigned char* entries, Py_ssize_t size) noexcept
    cdef int _add_end(self, Py_ssize_t index, Py_ssize_t end) except -1
    cdef int _resize_ends(self, Py_ssize_t capacity) except -1
    cdef int _keep(self, const unsigned char* entries, Py_ssize_t count) except -1
    cdef int _trim(self) except -1


# Reads a message in place; nothing of `data` is kept but what `history` copies. `history` may be None.
# Raises MessageError. `data` need not end with a NUL, and may be NULL when `size` is 0.
cdef Message decode_message(const char* data, Py_ssize_t size, History history)


cdef class Buffer:
    """Bytes to write, reused: a growing buffer of whole messages.

    C callers may read `data` and `size` (`data` is NULL while nothing was ever put), and then call `reset`.
    """
    cdef char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef int reserve(self, Py_ssize_t extra) except -1
    # `event_id_json` is the id as JSON, made once a turn: b"26", or b"null".
    cdef int put_agent_response_frame(self, str content, bytes event_id_json, bint is_final) except -1
    cdef int put_pong_frame(self) except -1
    cdef bytes take(self)                 # the bytes so far; the buffer is empty afterwards
    cdef void reset(self) noexcept        # empties the buffer; memory that a huge message took is given back


# An `agent_response` without a frame.
cdef bytes agent_response_json(str content, bytes event_id_json, bint is_final)

# b"26" or b"null"; TypeError if `event_id` is neither int nor None.
cdef bytes event_id_json(object event_id)


# Checks UTF-8 (Unicode table 3-7) from `state` on, so that a text may come in pieces.
# Returns the state after it: UTF8_ACCEPT at a character's end, UTF8_REJECT for good once invalid, else in a character.
cdef enum:
    UTF8_ACCEPT = 0
    UTF8_REJECT = 1

cdef unsigned int utf8_check(unsigned int state, const unsigned char* data, Py_ssize_t size) noexcept nogil
