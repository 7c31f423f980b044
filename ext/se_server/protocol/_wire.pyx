"""The wire format, read and written without an intermediate: bytes to a Message, a text to the bytes of a frame.

A message is scanned once, in place: what the protocol does not name is checked against JSON's grammar and skipped, and
a Python object is made only of what is handed on. Every byte may be hostile: nothing behind `size` is read, nothing
recurses, and the time is proportional to the size.
"""

import json
import sys

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE, PyList_GetSlice
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.string cimport memcmp, memcpy, strlen

from se_server._message cimport ConversationMessage, make
from se_server.errors import InvalidUtf8, MessageError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    int PyList_SetSlice(object items, Py_ssize_t low, Py_ssize_t high, PyObject* others) except -1
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    bint PyUnicode_IS_ASCII(str text)
    Py_UCS4 PyUnicode_READ(int kind, const void* data, Py_ssize_t index) nogil

include "_wire_utf8.pxi"
include "_wire_scan.pxi"
include "_wire_history.pxi"
include "_wire_encode.pxi"

MAX_DEPTH = MAX_LEVELS
# The enumerators are C constants; Python sees plain integers.
globals().update(
    UNKNOWN=UNKNOWN, INIT=INIT, USER_TRANSCRIPT=USER_TRANSCRIPT, PING=PING, CLOSE=CLOSE, ERROR=ERROR
)

cdef str ROLE_USER = "user"
cdef str ROLE_AGENT = "agent"
cdef str EMPTY = ""

cdef enum:
    STACK_TEXT = 1024                          # texts with escapes up to here need no allocation to be unescaped
    NAME_MAX = 15                              # of the names and types that the protocol knows
    MAX_CONVERSATION_ID = 64 * 1024            # bytes
    MAX_ODD_ID = 256                           # bytes of an event id that is not an integer: each chunk repeats it

cdef struct Fields:
    Value type
    Value conversation_id
    Value user_transcript
    Value event_id
    Value message
    # The first entry of the transcript that was left out: its index, or -1, and where it starts.
    Py_ssize_t bad_index
    const unsigned char* bad_start


@cython.freelist(8)
@cython.no_gc  # nothing that it holds can hold it
cdef class Message:
    """One message of the API, read."""


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


cdef int scan_entry(Scan* scan, Value* entry, Value* role, Value* content) noexcept nogil:
    """One entry of the transcript, whatever it is; `role` and `content` are what its last such members hold."""
    cdef Value name
    cdef Value other
    cdef Value* value
    cdef unsigned char room[6 * NAME_MAX]
    cdef const unsigned char* word
    cdef Py_ssize_t size
    role.kind = content.kind = MISSING
    if scan.at >= scan.end or scan.at[0] != c"{":
        return scan_value(scan, entry, 2)
    entry.kind = OBJECT
    entry.start = scan.at
    scan.at += 1
    skip_blanks(scan)
    if scan.at < scan.end and scan.at[0] == c"}":
        scan.at += 1
        entry.end = scan.at
        return 0
    while True:
        skip_blanks(scan)
        if has_name(scan, b'"role":', 7):
            value = role
        elif has_name(scan, b'"content":', 10):
            value = content
        else:
            if scan_name(scan, &name) < 0:
                return -1
            size = plain_name(&name, room, &word)
            if size == 4 and memcmp(word, b"role", 4) == 0:
                value = role
            elif size == 7 and memcmp(word, b"content", 7) == 0:
                value = content
            else:
                value = &other
        if scan_value(scan, value, 3) < 0:
            return -1
        skip_blanks(scan)
        if scan.at < scan.end and scan.at[0] == c"}":
            scan.at += 1
            entry.end = scan.at
            return 0
        if expect(scan, c",", b"expected ',' or '}'") < 0:
            return -1


cdef str flaw_of_entry(Value* entry, Value* role, Value* content):
    """Return the error of an entry that is not a message."""
    if entry.kind != OBJECT:
        return f"expected an object, got {describe(entry.kind)}"
    if role.kind != STRING:
        return "role is missing" if role.kind == MISSING else f"role is {describe(role.kind)}"
    if content.kind != STRING:
        return "content is missing" if content.kind == MISSING else f"content is {describe(content.kind)}"
    return f"{'role' if text_of_value(role) is None else 'content'} holds a lone surrogate"


cdef object message_of_entry(Value* entry, Value* role_value, Value* content_value):
    """The ConversationMessage of a scanned entry, or None if none can be made of it."""
    cdef str role, content
    if entry.kind != OBJECT or role_value.kind != STRING or content_value.kind != STRING:
        return None
    role = role_of_value(role_value)
    if role is None:
        return None
    content = text_of_value(content_value)
    if content is None:
        return None
    return make(role, content)


cdef object bad_entry_of(Scan* scan, Fields* fields):
    """Return the error of the first entry that was left out. It is read again here, so that good entries cost nothing."""
    cdef Value entry, role, content
    scan.at = fields.bad_start
    scan_entry(scan, &entry, &role, &content)
    return error_at(scan, f"transcript entry {fields.bad_index}: {flaw_of_entry(&entry, &role, &content)}", &entry)


cdef int read_transcript(Scan* scan, Fields* fields, Message message, History history) except -2:
    """An array of entries into `message.transcript`; -1 if the scan fails."""
    cdef Value entry, role, content
    cdef Py_ssize_t index = 0
    cdef const unsigned char* entries = scan.at + 1
    cdef Py_ssize_t weight = 0, kept_weight, limit = PY_SSIZE_T_MAX
    cdef list messages
    cdef object made
    scan.at = entries
    fields.bad_index = -1
    if history is None:
        messages = []
    else:
        index = history._match(entries, scan.end - entries)
        history._trim()
        messages = history._messages
        weight = history._objects_bytes
        limit = history._text_limit
        if history._bad_index >= 0:
            fields.bad_index = history._bad_index
            fields.bad_start = entries + history._bad_start
        history.place = <Py_ssize_t> (entries - scan.start)
        history.equal = 0
        if index:
            history.equal = history._ends[index - 1]
            scan.at += history._ends[index - 1]
    kept_weight = weight
    skip_blanks(scan)
    if index == 0 and scan.at < scan.end and scan.at[0] == c"]":
        scan.at += 1
    else:
        while True:
            if index:
                if scan.at < scan.end and scan.at[0] == c"]":
                    scan.at += 1
                    break
                if expect(scan, c",", b"expected ',' or ']'") < 0:
                    return -1
                skip_blanks(scan)
            if scan_entry(scan, &entry, &role, &content) < 0:
                return -1
            made = message_of_entry(&entry, &role, &content)
            if made is None and fields.bad_index < 0:
                fields.bad_index = index
                fields.bad_start = entry.start
            weight += entry_bytes(made)
            if weight > limit:
                scan.at = entry.start
                return refuse(scan, b"the transcript takes too much memory")
            if made is not None or history is not None:
                PyList_Append(messages, made)
            if history is not None:
                history._decoded += 1
                history._add_end(index, scan.at - entries if weight <= OBJECTS_MAX else HISTORY_MAX + 1)
                if history._ends[index] <= HISTORY_MAX:
                    kept_weight = weight
            index += 1
            skip_blanks(scan)
    if history is not None:
        messages = PyList_GetSlice(messages, 0, index)
        history._keep(entries, index)
        history._objects_bytes = kept_weight
        history._trim()
        if 0 <= fields.bad_index < history._count:
            history._bad_index = fields.bad_index
            history._bad_start = fields.bad_start - entries
        if fields.bad_index >= 0:
            messages = [made for made in messages if made is not None]
    message.transcript = messages
    return 0


cdef str last_said(list transcript):
    """The text of the last user message, or None."""
    cdef Py_ssize_t index = PyList_GET_SIZE(transcript)
    cdef ConversationMessage message
    while index:
        index -= 1
        message = <ConversationMessage>PyList_GET_ITEM(transcript, index)
        if message.role is ROLE_USER or message.role == ROLE_USER:  # it may have been made of escapes
            return message.content
    return None


cdef int scan_message(Scan* scan, Fields* fields, Message message, History history) except -2:
    """The whole message; -1 if the scan fails."""
    cdef Value name, other
    cdef Value* value
    skip_blanks(scan)
    if scan.at >= scan.end:
        return refuse(scan, b"empty message")
    if scan.at[0] != c"{":
        return refuse_start(scan)
    scan.at += 1
    skip_blanks(scan)
    if scan.at < scan.end and scan.at[0] == c"}":
        scan.at += 1
    else:
        while True:
            skip_blanks(scan)
            if has_name(scan, b'"type":', 7):
                value = &fields.type
            elif has_name(scan, b'"user_transcript":', 18):
                value = &fields.user_transcript
            elif has_name(scan, b'"event_id":', 11):
                value = &fields.event_id
            else:
                if scan_name(scan, &name) < 0:
                    return -1
                value = field_named(fields, &name)
                if value == NULL:
                    value = &other
            if value == &fields.user_transcript and scan.at < scan.end and scan.at[0] == c"[":
                value.kind = ARRAY
                value.start = scan.at
                if read_transcript(scan, fields, message, history) < 0:
                    return -1
            elif scan_value(scan, value, 1) < 0:
                return -1
            skip_blanks(scan)
            if scan.at < scan.end and scan.at[0] == c"}":
                scan.at += 1
                break
            if expect(scan, c",", b"expected ',' or '}'") < 0:
                return -1
    skip_blanks(scan)
    if scan.at < scan.end:
        return fail(scan, b"expected the end of the message")
    return 0


cdef str required_text(Scan* scan, str name, Value* value):
    cdef str text = text_of_value(value)
    if text is None:
        raise error_at(scan, f"{name} holds a lone surrogate", value)
    return text


cdef object any_value(Scan* scan, str name, Value* value):
    """Return a value that the protocol does not foresee here, as `json` reads it."""
    cdef str text
    if value.kind == STRING:
        text = required_text(scan, name, value)
        return text
    try:
        return json.loads(PyBytes_FromStringAndSize(<const char*>value.start, value.end - value.start))
    except (ValueError, RecursionError):
        raise error_at(scan, f"{name}: expected a value that Python can hold", value) from None


cdef int read_event_id(Scan* scan, Value* value, Message message) except -1:
    cdef const unsigned char* at = value.start
    cdef bint negative
    cdef unsigned long long number = 0
    cdef unsigned long long limit
    cdef unsigned int digit
    if value.kind == MISSING or value.kind == NULL_VALUE:
        message.event_id_json = NULL_JSON
        return 0
    if value.kind != NUMBER or not value.integral:
        return read_odd_event_id(scan, value, message)
    negative = at[0] == c"-"
    limit = 0x8000000000000000ULL if negative else 0xFFFFFFFFFFFFFFFFULL
    at += negative
    while at < value.end:
        digit = at[0] - c"0"
        if number > (limit - digit) // 10:
            return read_odd_event_id(scan, value, message)
        number = number * 10 + digit
        at += 1
    message.event_id = -<object>number if negative else number
    # JSON writes an integer in one way only, but for -0.
    at = value.start if number else value.end - 1
    message.event_id_json = PyBytes_FromStringAndSize(<const char*>at, value.end - at)
    return 0


cdef int read_odd_event_id(Scan* scan, Value* value, Message message) except -1:
    """Take an id that is not an integer of 64 bits as it is; it goes back in the API's own spelling."""
    if value.end - value.start > MAX_ODD_ID:
        raise error_at(scan, f"event_id is longer than {MAX_ODD_ID} bytes", value)
    message.event_id = any_value(scan, "event_id", value)
    message.event_id_json = PyBytes_FromStringAndSize(<const char*>value.start, value.end - value.start)
    return 0


cdef Message decode_message(const char* data, Py_ssize_t size, History history):
    cdef Scan scan
    cdef Fields fields
    cdef Message message = Message.__new__(Message)
    scan.start = scan.at = <const unsigned char*>data
    scan.end = scan.start + size
    scan.reason = NULL
    scan.names_byte = False
    fields.type.kind = fields.conversation_id.kind = fields.user_transcript.kind = MISSING
    fields.event_id.kind = fields.message.kind = MISSING
    fields.bad_index = -1
    if scan_message(&scan, &fields, message, history) < 0:
        if history is not None:
            history._trim()
        raise error_of(&scan)
    message.kind = kind_of(&fields.type)
    if message.kind == USER_TRANSCRIPT:
        if fields.user_transcript.kind == MISSING or fields.user_transcript.kind == NULL_VALUE:
            message.transcript = []
        elif fields.user_transcript.kind != ARRAY:
            raise error_at(
                &scan, f"user_transcript: expected an array, got {describe(fields.user_transcript.kind)}",
                &fields.user_transcript,
            )
        elif fields.bad_index >= 0:
            message.bad_entry = bad_entry_of(&scan, &fields)
        read_event_id(&scan, &fields.event_id, message)
        message.said = last_said(message.transcript)
        return message
    message.transcript = None
    if message.kind == INIT:
        if fields.conversation_id.kind != MISSING and fields.conversation_id.kind != NULL_VALUE:
            if fields.conversation_id.end - fields.conversation_id.start > MAX_CONVERSATION_ID:
                raise error_at(
                    &scan, f"conversation_id is longer than {MAX_CONVERSATION_ID} bytes", &fields.conversation_id
                )
            message.conversation_id = any_value(&scan, "conversation_id", &fields.conversation_id)
    elif message.kind == ERROR:
        message.text = EMPTY
        if fields.message.kind == STRING:
            message.text = required_text(&scan, "message", &fields.message)
    elif message.kind == UNKNOWN and fields.type.kind == STRING:
        message.text = required_text(&scan, "type", &fields.type)
    return message


def decode(data, History history=None):
    """Read one message."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return decode_message(<const char*>view.buf, view.len, history)
    finally:
        PyBuffer_Release(&view)


def utf8_state(bytes data not None, unsigned int state=UTF8_ACCEPT):
    """Check UTF-8 in pieces: 0 at a character's end, 1 once invalid, any other number inside a character."""
    return utf8_check(state, <const unsigned char*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
