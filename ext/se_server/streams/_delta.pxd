"""The text inside LLM events, and the reading of one answer's events."""

from se_server.protocol.turn cimport Turn
from se_server.streams._scan cimport Failure, Scanner, Unknown, Usage

# The text to speak of one event, by itself; None for none.
cpdef str text_of(object event)


cdef class Reading:
    """The reading of one answer's events."""

    cdef object extractor            # the user's own for this answer, or None
    cdef object nodes                # the LangGraph nodes that are spoken; None: all
    cdef bint speaks_refusals
    cdef Turn turn                   # gets the usage; None outside one
    cdef object source               # the object that user code passed, for its name
    # Of one event.
    cdef bint is_known               # it belongs to an API, with text or without
    # Of the answer.
    cdef bint has_text
    cdef readonly Failure failure    # ends the answer
    cdef list refused
    cdef str half                    # of a surrogate pair, the end of the last text
    cdef Py_ssize_t unknown
    cdef Unknown first_unknown
    cdef object first_unknown_class
    cdef Unknown repeated            # an event that repeats text; counts only where nothing gave it
    cdef object repeated_class
    cdef bint has_chunks             # OpenAI's helper shows each chunk before the events made of it,
    cdef bint chunk_has_text         # and the last one had text in choice 0
    cdef set spoken_ids              # LangChain messages of which a chunk was spoken
    cdef str last_id
    # Reported where it explains a silence.
    cdef bint has_silent             # events of an API that have no text
    cdef Py_ssize_t asked            # events of which the user's own function was asked for the text
    cdef bint has_node               # a message was of one of `nodes`
    cdef set other_nodes             # the names of other nodes, or None
    # Texts as they are.
    cdef str first                   # the first of them, until the second came
    cdef bint is_settled             # they are no growing text
    cdef object growing              # a `Growing` that watches, or None
    cdef object sniffing             # a `Sniffing` that holds texts back, or None
    cdef Scanner scanner             # of bytes and raw lines, once they are recognised
    cdef bint is_by_line
    # Tokens.
    cdef object input_before, output_before  # of the turn before this answer
    cdef bint has_base
    cdef object input_tokens, output_tokens

    cdef bint is_blank(self) noexcept
    # The text to put of one event, or None. A failure is left in `failure` for the caller to raise after the text.
    cdef str take(self, object event)
    # The text that the end of the stream leaves; it may raise, too.
    cdef str finish(self)
    cdef object error(self)
    # The mistake that the end of the stream leaves to be reported: see `Stream.doubt`.
    cdef object doubt(self, bint has_text)
    cdef str read_event(self, object event)
    cdef str plain(self, str text)
    cdef str watched(self, str text)
    cdef str scan(self, object piece)
    cdef str scanned(self, list results)
    cdef str joined(self, str text)
    cdef int refuse(self, str text) except -1
    cdef int fail(self, str kind, str message, str code) except -1
    cdef int block(self, str name, object reason, str message) except -1
    cdef int repeat(self, object event) except -1
    cdef int count_usage(self, object input_tokens, object output_tokens, bint adds) except -1
    cdef int note_unknown(self, object event, Unknown unknown) except -1


# Whether a text cannot be a part of raw lines, of JSON or of a surrogate pair: it is put as it is.
cdef bint is_plain(str text) noexcept
