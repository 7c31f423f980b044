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


include "_wire_values.pxi"
include "_wire_transcript.pxi"


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
