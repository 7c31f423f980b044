"""The text inside LLM events, and what else they say: refusals, failures, tokens.

Asking is what costs. Most events lack most parts, and a pydantic model takes 5-18 us to say so: its `__getattr__` is
Python and formats an exception. What is remembered per event type is therefore how to read it: a model's fields and
extras lie in two dicts, where a missing name costs 20 ns. Every event is still matched against the whole table, in
order, so that a type that carries one provider's shape now and another's next (SimpleNamespace) is right each time.

`_delta_parts.pxi` reads parts, `_delta_formats.pxi` knows the events of packages. A `Reading` has the state of one
answer; answers of plain texts do without.
"""

from cpython.bytearray cimport PyByteArray_Check
from cpython.bytes cimport PyBytes_Check
from cpython.dict cimport PyDict_Check, PyDict_CheckExact, PyDict_GetItemWithError
from cpython.float cimport PyFloat_Check
from cpython.list cimport PyList_Check
from cpython.long cimport PyLong_Check, PyLong_FromVoidPtr
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_XDECREF
from cpython.tuple cimport PyTuple_Check
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact

from se_server.protocol.turn cimport Turn
from se_server.streams._scan cimport Failure, Refusal, Scanner, Unknown, Usage

from se_server.errors import UnknownStreamError
from se_server.streams._scan import MAX_KEY_CHARS, MAX_KEYS, MAX_MESSAGE_CHARS
from se_server.streams.extractors import extractor_for, on_change
from se_server.streams.growing import Growing, is_known_to_grow
from se_server.streams.naming import describe, describe_empty, describe_nodes, describe_unspoken, name_of
from se_server.streams.refusing import close_event
from se_server.streams.sniffing import IS_RAW, IS_TEXT, Sniffing, is_surely_raw

cdef extern from *:
    """
    /* Reads an attribute without making an exception of a missing one where the type allows. Public since 3.13. */
    #if PY_VERSION_HEX < 0x030D0000
    #define se_optional_attribute _PyObject_LookupAttr
    #else
    #define se_optional_attribute PyObject_GetOptionalAttr
    #endif
    /* Whether missing attributes are told by C code alone: no __getattr__ or __getattribute__ of Python's. */
    #define se_is_plain(event) (Py_TYPE(event)->tp_getattro == PyObject_GenericGetAttr)
    """
    int se_optional_attribute(object event, str name, PyObject **value) except -1
    bint se_is_plain(object event)
    object PyObject_GenericGetDict(object event, void *context)
    object PyObject_GenericGetAttr(object event, str name)
    object PyUnicode_FromObject(object text)

cdef extern from "Python.h":
    int PyUnicode_KIND(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index) noexcept

cdef enum:
    # A stream that has given so many unknown events and no text is taken for one that will not.
    MAX_UNKNOWN = 8
    # Wrappers in wrappers: LangGraph's pairs in pairs, agents' events.
    MAX_WRAPPERS = 6
    MAX_SPOKEN_IDS = 256
    MAX_OTHER_NODES = 8

cdef str REPLACEMENT = "\ufffd"
cdef str NO_MESSAGE = "the provider gave no message"

include "_delta_parts.pxi"
include "_delta_formats.pxi"
include "_delta_apis.pxi"
include "_delta_structure.pxi"
include "_delta_packages.pxi"

on_change.append(forget_types)


# The reading of the event before, if that left nothing in it. None while an extractor of the user's runs in it.
cdef Reading spare = None


cpdef str text_of(object event):
    global spare
    cdef Reading reading
    cdef str text
    if PyUnicode_Check(event):
        return exact(event)
    reading, spare = spare, None
    if reading is None:
        reading = Reading.__new__(Reading)
    reading.is_known = False
    text = read(reading, event, 0)
    if reading.is_blank():
        spare = reading
    return text


def result_of(object event):
    cdef Reading reading = Reading.__new__(Reading)
    cdef str text = exact(event) if PyUnicode_Check(event) else reading.read_event(event)
    if text is not None:
        return text
    if reading.failure is not None:
        return reading.failure
    if reading.refused is not None:
        return Refusal("".join(reading.refused))
    if reading.first_unknown is not None:
        return reading.first_unknown
    if reading.input_tokens is not None or reading.output_tokens is not None:
        return Usage(reading.input_tokens, reading.output_tokens)
    return None


cdef bint is_plain(str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef Py_UCS4 first, last
    if size == 0:
        return True
    first = PyUnicode_READ_CHAR(text, 0)
    if first == c"d" or first == c"{":
        return first == c"d" and (size < 5 or PyUnicode_READ_CHAR(text, 4) != c":")
    if PyUnicode_KIND(text) == 1:
        return True
    last = PyUnicode_READ_CHAR(text, size - 1)
    return not (0xD800 <= last < 0xDC00 or 0xDC00 <= first < 0xE000)


cdef class Reading:
    def __cinit__(self):
        self.speaks_refusals = True

    cdef bint is_blank(self) noexcept:
        """Whether the last event left nothing behind, so that the next answer may use it."""
        return (
            self.failure is None
            and self.refused is None
            and self.unknown == 0
            and self.repeated is None
            and not self.has_chunks
            and self.spoken_ids is None
            and self.last_id is None
            and self.scanner is None
            and self.input_tokens is None
            and self.output_tokens is None
        )

    cdef str take(self, object event):
        cdef str text
        cdef Py_ssize_t unknown = self.unknown
        if self.extractor is not None:
            self.asked += 1
            text = asked(self.extractor, event)
        elif PyUnicode_Check(event):
            text = self.plain(exact(event))
        else:
            text = self.read_event(event)
            if self.unknown > unknown and self.unknown >= MAX_UNKNOWN and not self.has_text and self.refused is None:
                raise self.error()
        if text:
            text = self.joined(text)
            if text:
                self.has_text = True
        return text

    cdef str finish(self):
        cdef str text = ""
        cdef str more
        if self.failure is not None:
            return None
        if self.sniffing is not None:
            text = "".join(self.sniffing.held)
            self.sniffing = None
        if self.growing is not None:
            text += self.growing.end()
            self.growing = None
        if self.scanner is not None:
            more = self.scanned((<Scanner>self.scanner).close())
            if more:
                text += more
        if text:
            text = self.joined(text)
        if self.half is not None:
            self.half = None
            text = (text or "") + REPLACEMENT
        if text:
            self.has_text = True
            return text
        if self.has_text or self.failure is not None:
            return None
        if self.refused is not None:
            text = self.joined("".join(self.refused)) or ""
            if self.speaks_refusals:
                return text
            self.failure = Failure("refusal", text or NO_MESSAGE)
            return None
        if self.unknown or self.repeated is not None:
            raise self.error()
        return None

    cdef object error(self):
        cdef Unknown unknown = self.first_unknown if self.first_unknown is not None else self.repeated
        cdef object kind = self.first_unknown_class if self.first_unknown is not None else self.repeated_class
        return UnknownStreamError(describe(self.source, self.unknown, kind, unknown, self.scanner is not None))

    cdef object doubt(self, bint has_text):
        if has_text or self.has_text:
            if self.unknown == 0:
                return None
            kind = self.first_unknown_class
            unknown = self.first_unknown
            text = describe_unspoken(self.source, self.unknown, kind, unknown, self.scanner is not None)
            return True, unknown.type or name_of(kind), text
        if self.other_nodes is not None and not self.has_node:
            return True, "nodes", describe_nodes(self.source, self.nodes, self.other_nodes)
        if self.refused is not None or self.has_silent or self.scanner is not None:
            return None
        return False, "text=" if self.asked else "", describe_empty(self.source, self.asked)

    cdef str read_event(self, object event):
        cdef str text
        self.is_known = False
        text = read(self, event, 0)
        if text is None and not self.is_known:
            self.note_unknown(event, None)
        elif text is None and event is not None:
            self.has_silent = True
        return text

    # --- texts as they are ---

    cdef str plain(self, str text):
        """The text of a text: itself, unless it is a line of an event stream, or the text so far once more."""
        if self.scanner is not None:
            return self.scan(text)
        if self.sniffing is not None or not (self.is_settled or self.has_text) or not is_plain(text):
            if self.sniffing is None:
                if self.has_text or self.growing is not None:
                    if is_surely_raw(text):
                        self.sniffing = Sniffing()
                else:
                    self.sniffing = Sniffing()
            if self.sniffing is not None:
                verdict = self.sniffing.add(text)
                if verdict == IS_RAW:
                    self.scanner = Scanner(self.sniffing.kind)
                    self.is_by_line = self.sniffing.is_by_line
                    pieces, self.sniffing = self.sniffing.held, None
                    text = ""
                    for piece in pieces:
                        text += self.scan(piece) or ""
                    return text
                if verdict != IS_TEXT:
                    return None
                text = "".join(self.sniffing.held)
                self.sniffing = None
        return self.watched(text)

    cdef str watched(self, str text):
        """A text, or the difference to the one before where each repeats the one before it."""
        if self.growing is not None:
            text = self.growing.add(text)
            if self.growing.is_over:
                self.growing = None
            return text
        if self.is_settled or not text:
            return text
        if self.first is None:
            self.first = text
            return text
        self.is_settled = True
        first, self.first = self.first, None
        if PyUnicode_GET_LENGTH(text) > PyUnicode_GET_LENGTH(first) and text.startswith(first):
            self.growing = Growing(first, is_known_to_grow(self.source))
            return self.watched(text)
        return text

    cdef str scan(self, object piece):
        """The texts in a piece of an HTTP response's body."""
        if self.scanner is None:
            self.scanner = Scanner()
        self.is_known = True
        if PyUnicode_Check(piece) and self.is_by_line:
            return self.scanned(self.scanner.feed(lines_of(piece)))
        return self.scanned(self.scanner.feed(piece))

    cdef str scanned(self, list results):
        cdef str text = None
        cdef Usage usage
        for result in results:
            if PyUnicode_Check(result):
                text = result if text is None else text + <str>result
            else:
                passed_on(self, result)
        usage = self.scanner.usage
        if usage is not None:
            self.count_usage(usage.input_tokens, usage.output_tokens, False)
        return text

    cdef str joined(self, str text):
        """The text with the half of a character that the one before it ended with; None if there is only a half."""
        cdef Py_UCS4 last
        if PyUnicode_KIND(text) == 1 and self.half is None:
            return text
        if self.half is not None:
            text = (self.half + text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            self.half = None
        elif text.isascii():
            return text
        last = PyUnicode_READ_CHAR(text, PyUnicode_GET_LENGTH(text) - 1)
        if 0xD800 <= last < 0xDC00:
            self.half = chr(last)
            text = text[:PyUnicode_GET_LENGTH(text) - 1]
        return text

    # --- what is no text ---

    cdef int refuse(self, str text) except -1:
        if text:
            if self.refused is None:
                self.refused = []
            self.refused.append(text)
        return 0

    cdef int fail(self, str kind, str message, str code) except -1:
        if self.failure is None:
            self.failure = Failure(kind, (message or NO_MESSAGE)[:MAX_MESSAGE_CHARS], code)
        return 0

    cdef int block(self, str name, object reason, str message) except -1:
        """Take note of an answer that the provider held back. After some text it is an end like any other."""
        cdef str code = label(reason)
        if not self.has_text and self.refused is None:
            self.fail("blocked", message or f"{name}: {code}", code)
        return 0

    cdef int repeat(self, object event) except -1:
        if self.repeated is None:
            self.repeated = unknown_of(event)
            self.repeated_class = type(event)
        return 0

    cdef int count_usage(self, object input_tokens, object output_tokens, bint adds) except -1:
        """Keep the tokens; the last count is what it has come to, unless it `adds` to the one before."""
        cdef Turn turn = self.turn
        if input_tokens is None and output_tokens is None:
            return 0
        if adds:
            input_tokens = sum_of(self.input_tokens, input_tokens)
            output_tokens = sum_of(self.output_tokens, output_tokens)
        if input_tokens is not None:
            self.input_tokens = input_tokens
        if output_tokens is not None:
            self.output_tokens = output_tokens
        if turn is not None:
            if not self.has_base:
                self.has_base = True
                if turn.usage is not None:
                    self.input_before, self.output_before = turn.usage.input_tokens, turn.usage.output_tokens
            turn.usage = Usage(
                sum_of(self.input_before, self.input_tokens), sum_of(self.output_before, self.output_tokens)
            )
        return 0

    cdef int note_unknown(self, object event, Unknown unknown) except -1:
        self.unknown += 1
        if self.first_unknown is None:
            self.first_unknown = unknown_of(event) if unknown is None else unknown
            self.first_unknown_class = event if isinstance(event, type) else type(event)
        close_event(event)
        return 0


cdef object sum_of(object first, object second):
    return second if first is None else first if second is None else first + second


cdef str asked(object extractor, object event):
    """The text of an event by a function of the user's."""
    text = extractor(event)
    if text is None or PyUnicode_CheckExact(text):
        return text
    if PyUnicode_Check(text):
        return exact(text)
    raise TypeError(
        f"the function that finds the text of an event returned {type(text).__name__}: it returns a str, or None for "
        f"nothing to speak"
    )


cdef Unknown unknown_of(object event):
    cdef str kind = exact(get(event, TYPE)) if not is_list(event) else None
    cdef list keys = []
    if PyDict_Check(event):
        members = event
    else:
        # A class too: it is the most frequent mistake of all, and its members name it.
        members = getattr(event, "__dict__", None) or getattr(event, "__slots__", None) or ()
    if kind is not None:
        kind = kind[:MAX_KEY_CHARS]
    for name in members:
        if len(keys) < MAX_KEYS and PyUnicode_Check(name):
            keys.append(exact(name)[:MAX_KEY_CHARS])
    return Unknown(kind, tuple(keys))


cdef str lines_of(str piece):
    """A line without its end, as an event of its own where it is whole: whoever drops blank lines gets each at once."""
    if piece.startswith("data:") and piece.rstrip().endswith(("}", "]")):
        return piece.rstrip("\r\n") + "\n\n"
    return piece if piece.endswith(("\n", "\r")) else piece + "\n"
