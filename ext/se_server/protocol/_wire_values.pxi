# The values of a message: what they are to Python, and the errors that name them.

cdef str describe(ValueKind kind):
    if kind == NULL_VALUE:
        return "null"
    if kind == BOOLEAN:
        return "a boolean"
    if kind == NUMBER:
        return "a number"
    if kind == STRING:
        return "a string"
    if kind == ARRAY:
        return "an array"
    return "an object"


cdef object error_of(Scan* scan):
    """The MessageError of a scan that failed."""
    cdef Py_ssize_t size = scan.end - scan.start
    cdef Py_ssize_t offset = utf8_first_bad(scan.start, size)
    # Before any other error: text that is not UTF-8 was cut or garbled on its way, and is reported as such.
    if offset >= 0:
        return InvalidUtf8("invalid UTF-8", offset)
    offset = scan.at - scan.start
    cdef str reason = scan.reason.decode("ascii")
    if scan.names_byte:
        reason += f", got {chr(scan.at[0])!r}" if 0x20 <= scan.at[0] < 0x7F else f", got byte 0x{scan.at[0]:02X}"
    return MessageError(reason, offset)


cdef object error_at(Scan* scan, str reason, Value* value):
    return MessageError(reason, value.start - scan.start)


cdef str text_of_value(Value* value):
    """The text of a scanned string, or None when it holds a lone surrogate."""
    cdef const unsigned char* start = value.start + 1
    cdef Py_ssize_t size = value.end - value.start - 2
    cdef unsigned char stack[STACK_TEXT]
    cdef unsigned char* unescaped
    if not value.escaped:
        return text_of_bytes(start, size, value.wide)
    unescaped = stack
    if size > STACK_TEXT:
        unescaped = <unsigned char*>PyMem_Malloc(size)
        if unescaped == NULL:
            raise MemoryError()
    try:
        size = unescape(start, start + size, unescaped)
        if size < 0:
            return None
        return PyUnicode_DecodeUTF8(<const char*>unescaped, size, NULL)
    finally:
        if unescaped != stack:
            PyMem_Free(unescaped)


cdef inline str text_of_bytes(const unsigned char* start, Py_ssize_t size, bint wide):
    if wide:
        return PyUnicode_DecodeUTF8(<const char*>start, size, NULL)
    cdef str text = PyUnicode_New(size, 0x7F)
    # The empty text is one object that everybody shares: it is not written to.
    if size:
        memcpy(PyUnicode_DATA(text), start, size)
    return text


cdef inline str role_of_value(Value* value):
    cdef Py_ssize_t size = value.end - value.start
    if size == 6 and memcmp(value.start, b'"user"', 6) == 0:
        return ROLE_USER
    if size == 7 and memcmp(value.start, b'"agent"', 7) == 0:
        return ROLE_AGENT
    return text_of_value(value)


cdef inline Py_ssize_t plain_name(Value* value, unsigned char* room, const unsigned char** word) noexcept nogil:
    """Give a scanned string's inside with its escapes resolved, and its size; -1 if it can be no word of the protocol."""
    cdef Py_ssize_t size = value.end - value.start - 2
    word[0] = value.start + 1
    if not value.escaped:
        return size
    if size > 6 * NAME_MAX:
        return -1
    word[0] = room
    # Never longer than it was, so `room` holds 6 * NAME_MAX bytes.
    return unescape(value.start + 1, value.end - 1, room)


cdef inline Value* field_named(Fields* fields, Value* name) noexcept nogil:
    cdef unsigned char room[6 * NAME_MAX]
    cdef const unsigned char* word
    cdef Py_ssize_t size = plain_name(name, room, &word)
    if size == 4 and memcmp(word, b"type", 4) == 0:
        return &fields.type
    if size == 7 and memcmp(word, b"message", 7) == 0:
        return &fields.message
    if size == 8 and memcmp(word, b"event_id", 8) == 0:
        return &fields.event_id
    if size == 15 and memcmp(word, b"user_transcript", 15) == 0:
        return &fields.user_transcript
    if size == 15 and memcmp(word, b"conversation_id", 15) == 0:
        return &fields.conversation_id
    return NULL


cdef Kind kind_of(Value* type) noexcept nogil:
    cdef unsigned char room[6 * NAME_MAX]
    cdef const unsigned char* word
    cdef Py_ssize_t size
    if type.kind != STRING:
        return UNKNOWN
    size = plain_name(type, room, &word)
    if size == 4 and memcmp(word, b"ping", 4) == 0:
        return PING
    if size == 4 and memcmp(word, b"init", 4) == 0:
        return INIT
    if size == 5 and memcmp(word, b"close", 5) == 0:
        return CLOSE
    if size == 5 and memcmp(word, b"error", 5) == 0:
        return ERROR
    if size == 15 and memcmp(word, b"user_transcript", 15) == 0:
        return USER_TRANSCRIPT
    return UNKNOWN
