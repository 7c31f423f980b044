"""Texts out of the bytes of an LLM provider's HTTP response: server-sent events, or JSON objects one after another.

A token costs its bytes here: an event is checked against JSON's grammar in place, and the only object made of it is the
text to speak. Pieces may be cut anywhere. Every byte may be hostile: nothing behind a piece is read, nothing recurses,
an event has a limit, and the time is proportional to the size.

The framing is in this file, the meaning of an event in `_scan_events.pxi`.
"""

import json

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.list cimport PyList_Append
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_Check, PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy, strlen

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    bint PyUnicode_IS_ASCII(object text)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    UTF8_ACCEPT = 0
    UTF8_REJECT = 1

include "se_server/protocol/_wire_utf8.pxi"
include "se_server/protocol/_wire_scan.pxi"

# `response.completed` repeats the whole answer, its instructions and tools; generated images come as base64.
MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_DEPTH = MAX_LEVELS

cdef enum:
    UNDECIDED = 0
    SSE = 1
    JSON = 2

cdef enum:
    BOM_PASSED = 3
    KEPT_CAPACITY = 64 * 1024                  # more room than this is given back after the event that needed it
    STRAY_CHARS = 40

cdef const unsigned char* BOM = b"\xEF\xBB\xBF"


cdef int append(Room* room, const unsigned char* start, Py_ssize_t size) except -1:
    cdef Py_ssize_t capacity
    cdef unsigned char* data
    if room.capacity - room.size < size:
        capacity = max(256, 2 * room.capacity, room.size + size)
        data = <unsigned char*>PyMem_Realloc(room.data, capacity)
        if data == NULL:
            raise MemoryError()
        room.data = data
        room.capacity = capacity
    if size:
        memcpy(room.data + room.size, start, size)
        room.size += size
    return 0


cdef void empty(Room* room) noexcept:
    room.size = 0
    if room.capacity > KEPT_CAPACITY:
        PyMem_Free(room.data)
        room.data = NULL
        room.capacity = 0


cdef class Refusal:
    def __cinit__(self, str text not None):
        self.text = text

    def __repr__(self):
        return f"Refusal({self.text!r})"


cdef class Failure:
    def __cinit__(self, str kind not None, str message not None, str code=None):
        self.kind, self.message, self.code = kind, message, code

    def __repr__(self):
        return f"Failure({self.kind!r}, {self.message!r}, {self.code!r})"


cdef class Unknown:
    def __cinit__(self, str type, tuple keys not None):
        self.type, self.keys = type, keys

    def __repr__(self):
        return f"Unknown({self.type!r}, {self.keys!r})"


cdef class Usage:
    def __cinit__(self, object input_tokens=None, object output_tokens=None):
        self.input_tokens, self.output_tokens = input_tokens, output_tokens

    def __repr__(self):
        return f"Usage({self.input_tokens!r}, {self.output_tokens!r})"


include "_scan_values.pxi"
include "_scan_results.pxi"
include "_scan_events.pxi"
include "_scan_watch.pxi"


cdef class Scanner:
    def __cinit__(self, str kind=None, *, Py_ssize_t max_event_bytes=MAX_EVENT_BYTES):
        if kind is None:
            self.framing = UNDECIDED
        elif kind == "sse":
            self.framing = SSE
        elif kind == "ndjson":
            self.framing = JSON
        else:
            raise ValueError(f"kind must be 'sse', 'ndjson' or None, not {kind!r}")
        if max_event_bytes < 1:
            raise ValueError(f"max_event_bytes must be at least 1, not {max_event_bytes}")
        self.max_event_bytes = max_event_bytes

    def __dealloc__(self):
        PyMem_Free(self.line.data)
        PyMem_Free(self.data.data)

    @property
    def kind(self):
        return (None, "sse", "ndjson")[self.framing]

    def feed(self, piece not None):
        return feed_piece(self, piece, False)

    def feed_line(self, line not None):
        return feed_piece(self, line, True)

    def finish(self):
        return self.close()

    cdef list read(self, const unsigned char* data, Py_ssize_t size):
        cdef list results = []
        self.read_piece(data, data + size, results)
        return results

    cdef int read_piece(self, const unsigned char* at, const unsigned char* end, list results) except -1:
        if self.is_over:
            return 0
        if self.watch:
            return watch_piece(self, at, end, results)
        while self.bom_at < BOM_PASSED and at < end:
            if at[0] != BOM[self.bom_at]:
                if self.bom_at:
                    return self.malformed("the stream starts with a part of a byte order mark", results)
                self.bom_at = BOM_PASSED
                break
            self.bom_at += 1
            at += 1
        while self.framing == UNDECIDED and at < end:
            if at[0] == c"{" or at[0] == c"[":
                self.framing = JSON
            elif at[0] != c" " and at[0] != c"\n" and at[0] != c"\r" and at[0] != c"\t":
                self.framing = SSE
            else:
                at += 1
        if self.framing == SSE:
            return self.read_sse(at, end, results)
        return self.read_json(at, end, results)

    # --- server-sent events (WHATWG HTML, 9.2.6) ---------------------------------------------------------------------

    cdef int read_sse(self, const unsigned char* at, const unsigned char* end, list results) except -1:
        cdef const unsigned char* newline = NULL
        cdef const unsigned char* stop
        cdef const unsigned char* begin = at
        while at < end and not self.is_over:
            if self.is_after_cr:
                self.is_after_cr = False
                if at[0] == c"\n":
                    at += 1
                    continue
            # Looked for once, not once a line: lines may all end with CR.
            if newline == NULL or newline < at:
                newline = <const unsigned char*>memchr(at, c"\n", end - at)
                if newline == NULL:
                    newline = end
            stop = <const unsigned char*>memchr(at, c"\r", newline - at)
            if stop == NULL:
                stop = newline
            if stop == end:
                self.keep(at, end, results)
                break
            if self.line.size:
                self.keep(at, stop, results)
                if not self.is_over:
                    self.take_line(self.line.data, self.line.data + self.line.size, True, results)
                empty(&self.line)
            elif stop - at > self.max_event_bytes:
                self.malformed(f"a line is longer than {self.max_event_bytes} bytes", results)
            else:
                self.take_line(at, stop, False, results)
            self.is_after_cr = stop[0] == c"\r"
            at = stop + 1
            if self.is_between:
                self.is_between = False
                self.boundary = self.passed + (at - begin)
        if self.whole != NULL:
            append(&self.data, self.whole, self.whole_size)
            self.whole = NULL
        return 0

    cdef int keep(self, const unsigned char* start, const unsigned char* end, list results) except -1:
        """Keep a part of a line, or of a JSON value, that its piece did not end."""
        if end - start > self.max_event_bytes - self.line.size:
            return self.malformed(f"an event is longer than {self.max_event_bytes} bytes", results)
        return append(&self.line, start, end - start)

    cdef int take_line(self, const unsigned char* start, const unsigned char* end, bint is_kept, list results) except -1:
        cdef Py_ssize_t size = end - start
        cdef const unsigned char* value
        cdef Py_ssize_t name_size
        if size == 0:
            return watch_event(self, results) if self.watch else self.dispatch(results)
        if self.watch and not is_usual(self, start, size):
            self.is_over = True
            return 0
        if start[0] == c":":
            return 0
        value = <const unsigned char*>memchr(start, c":", size)
        if value == NULL:
            name_size = size
            value = end
        else:
            name_size = value - start
            value += 1
            if value < end and value[0] == c" ":
                value += 1
        if name_size == 4 and memcmp(start, b"data", 4) == 0:
            return self.take_data(value, end, is_kept, results)
        if name_size == 5 and memcmp(start, b"event", 5) == 0:
            self.is_error = end - value == 5 and memcmp(value, b"error", 5) == 0
        elif self.stray is None and not (
            (name_size == 2 and memcmp(start, b"id", 2) == 0) or (name_size == 5 and memcmp(start, b"retry", 5) == 0)
        ):
            self.stray = start[: min(size, STRAY_CHARS)].decode("utf-8", "replace")
        return 0

    cdef int take_data(self, const unsigned char* start, const unsigned char* end, bint is_kept, list results) except -1:
        if not self.has_data:
            self.has_data = True
            if is_kept:
                return append(&self.data, start, end - start)
            self.whole = start
            self.whole_size = end - start
            return 0
        if self.whole != NULL:
            append(&self.data, self.whole, self.whole_size)
            self.whole = NULL
        if end - start >= self.max_event_bytes - self.data.size:
            return self.malformed(f"an event is longer than {self.max_event_bytes} bytes", results)
        append(&self.data, b"\n", 1)
        return append(&self.data, start, end - start)

    cdef int dispatch(self, list results) except -1:
        """The blank line behind an event."""
        cdef const unsigned char* start = self.whole
        cdef Py_ssize_t size = self.whole_size
        if self.has_data:
            if start == NULL:
                start = self.data.data
                size = self.data.size
            read_event(self, start, start + size, self.is_error, results)
            self.has_data = False
            self.whole = NULL
            empty(&self.data)
        self.is_error = False
        return 0

    # --- JSON objects one after another: NDJSON, or an array of them -------------------------------------------------

    cdef int read_json(self, const unsigned char* at, const unsigned char* end, list results) except -1:
        cdef const unsigned char* start = at
        cdef unsigned char byte
        cdef unsigned long long special
        while at < end and not self.is_over:
            byte = at[0]
            if self.is_in_string:
                if self.is_escaped:
                    self.is_escaped = False
                    at += 1
                    continue
                while end - at >= WORD:
                    special = special_bytes(word_at(at))
                    if special:
                        at += trailing_zeros(special) >> 3
                        break
                    at += WORD
                if at < end:
                    byte = at[0]
                    self.is_escaped = byte == c"\\"
                    self.is_in_string = byte != c'"'
                    at += 1
                continue
            at += 1
            if byte == c"{" or (byte == c"[" and self.depth):
                if self.depth == 0:
                    start = at - 1
                self.depth += 1
            elif self.depth:
                if byte == c'"':
                    self.is_in_string = True
                elif byte == c"}" or byte == c"]":
                    self.depth -= 1
                    if self.depth == 0:
                        if self.line.size:
                            self.keep(start, at, results)
                            if not self.is_over:
                                read_event(self, self.line.data, self.line.data + self.line.size, False, results)
                            empty(&self.line)
                        elif at - start > self.max_event_bytes:
                            self.malformed(f"an event is longer than {self.max_event_bytes} bytes", results)
                        else:
                            read_event(self, start, at, False, results)
            elif byte not in (c" ", c"\n", c"\r", c"\t", c",", c"[", c"]"):
                self.malformed(f"expected a JSON object, got byte 0x{byte:02X}", results)
        if self.depth and not self.is_over:
            self.keep(start, end, results)
        return 0

    # --- the end -----------------------------------------------------------------------------------------------------

    cdef int malformed(self, str message, list results) except -1:
        """Give the failure of input that cannot be read on."""
        PyList_Append(results, Failure("malformed", message))
        self.is_over = True
        return 0

    cdef list close(self):
        cdef list results = []
        if self.is_finished:
            return results
        self.is_finished = True
        if not self.is_over and 0 < self.bom_at < BOM_PASSED:
            self.malformed("the stream ends in a byte order mark", results)
        if not self.is_over and self.depth:
            self.malformed("the stream ends inside an event", results)
        if not self.is_over and self.framing == SSE:
            # The standard drops an event without its blank line. Words that arrived are worth more than the line.
            if self.line.size:
                self.take_line(self.line.data, self.line.data + self.line.size, True, results)
            if not self.is_over:
                self.dispatch(results)
        if not self.is_over and not self.events and self.stray is not None:
            self.malformed(f"expected server-sent events, got a line that starts with {self.stray!r}", results)
        if self.high_half is not None:
            PyList_Append(results, REPLACEMENT)
        if self.refused_high_half is not None:
            PyList_Append(results, Refusal(REPLACEMENT))
        self.high_half = self.refused_high_half = None
        self.is_over = True
        empty(&self.line)
        empty(&self.data)
        return results


cdef list feed_piece(Scanner scanner, object piece, bint is_line):
    cdef Py_buffer view
    cdef list results = []
    cdef const unsigned char* data
    cdef Py_ssize_t size
    if scanner.is_finished:
        raise ValueError("the scanner is finished: make a new one for each response")
    if PyUnicode_Check(piece):
        try:
            data = <const unsigned char*>PyUnicode_AsUTF8AndSize(piece, &size)
        except UnicodeEncodeError:
            # Lone surrogates are not text: the grammar refuses them as it does in bytes.
            piece = piece.encode("utf-8", "surrogatepass")
            return feed_piece(scanner, piece, is_line)
        scanner.read_piece(data, data + size, results)
        if is_line and not (size and (data[size - 1] == c"\n" or data[size - 1] == c"\r")):
            scanner.read_piece(b"\n", <const unsigned char*>b"\n" + 1, results)
        return results
    PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE)
    try:
        data = <const unsigned char*>view.buf
        size = view.len
        scanner.read_piece(data, data + size, results)
        if is_line and not (size and (data[size - 1] == c"\n" or data[size - 1] == c"\r")):
            scanner.read_piece(b"\n", <const unsigned char*>b"\n" + 1, results)
    finally:
        PyBuffer_Release(&view)
    return results
