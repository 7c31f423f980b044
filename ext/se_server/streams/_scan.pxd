"""Texts out of the bytes of an LLM provider's HTTP response."""

cdef enum Watch:
    ANY_NAME = 1                               # events may have names
    NAMED = 2                                  # events without a name are skipped by the package
    NAMELESS = 3                               # events with a name are read differently
    DATA_ONLY = 4                              # lines are "data: " or blank, and all others mean an error
    CHAT_ONLY = 5                              # events that are no chat chunks, and halves of characters, are errors


cdef struct Room:
    unsigned char* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef class Refusal:
    cdef readonly str text


cdef class Failure:
    cdef readonly str kind
    cdef readonly str message
    cdef readonly object code


cdef class Unknown:
    cdef readonly object type
    cdef readonly tuple keys


cdef class Usage:
    cdef readonly object input_tokens
    cdef readonly object output_tokens


cdef class Scanner:
    cdef readonly bint done
    cdef readonly Usage usage
    cdef readonly Py_ssize_t events
    cdef int framing
    cdef Py_ssize_t max_event_bytes
    cdef int bom_at                            # bytes of a byte order mark seen, or BOM_PASSED
    cdef bint is_over                          # nothing that still comes is read
    cdef bint is_finished
    cdef bint has_text
    cdef str high_half                         # of a surrogate pair, the end of the last text; else None
    cdef str refused_high_half
    # Server-sent events.
    cdef Room line                             # the start of a line that a piece did not end
    cdef Room data                             # the event's data, where it is not in one line of one piece
    cdef const unsigned char* whole            # else it is there, in the piece that is being read
    cdef Py_ssize_t whole_size
    cdef bint has_data
    cdef bint is_error                         # the event's name is "error"
    cdef bint is_after_cr
    cdef str stray                             # the start of the first line that is none of an event stream
    # The watch over a stream that its package would read otherwise (`_scan_watch.pxi`).
    cdef int watch                             # one of `Watch`; 0: none
    cdef bint has_name
    cdef bint is_ping                          # the event's name is one that the package passes over
    cdef bint is_between                       # a usual event has just ended
    cdef Py_ssize_t passed                     # bytes of the pieces before this one
    cdef Py_ssize_t boundary                   # bytes of the body up to the end of the last usual event
    cdef str half_before                       # `high_half` at that point
    cdef Usage usage_before                    # `usage` at that point
    # Concatenated JSON, with `line` as the start of a value.
    cdef Py_ssize_t depth
    cdef bint is_in_string
    cdef bint is_escaped

    # The results of a piece, in order. `data` is read during the call only. Raises nothing but MemoryError.
    cdef list read(self, const unsigned char* data, Py_ssize_t size)
    cdef int read_piece(self, const unsigned char* at, const unsigned char* end, list results) except -1
    cdef int read_sse(self, const unsigned char* at, const unsigned char* end, list results) except -1
    cdef int read_json(self, const unsigned char* at, const unsigned char* end, list results) except -1
    cdef int keep(self, const unsigned char* start, const unsigned char* end, list results) except -1
    cdef int take_line(self, const unsigned char* start, const unsigned char* end, bint is_kept, list results) except -1
    cdef int take_data(self, const unsigned char* start, const unsigned char* end, bint is_kept, list results) except -1
    cdef int dispatch(self, list results) except -1
    cdef int malformed(self, str message, list results) except -1
    cdef list close(self)
