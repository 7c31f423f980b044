"""Shapes the text of an answer for speech, as it comes: marks are left out, and chunks are sentences or some words.

Any cutting of the text gives the same speech. A decision looks ahead as far as it must, never beyond `MAX_AHEAD`
characters, and waits where the text ends before that; so it depends on the text alone. `_step` decides one place, with
the marks of Markdown and HTML in `_shape_marks.pxi` and `_shape_lines.pxi`, and what has a beginning and an end in
`_shape_modes.pxi`.
"""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_4BYTE_KIND, PyUnicode_FromKindAndData

from html import unescape

from se_server.streams import shaping
from se_server.streams.formulas import say_formula
from se_server.streams.shaping import parts_of

cdef extern from "Python.h":
    Py_UCS4 PyUnicode_READ(int kind, const void* data, Py_ssize_t index) noexcept
    const void* PyUnicode_DATA(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    bint Py_UNICODE_ISALNUM(Py_UCS4 c) noexcept
    bint Py_UNICODE_ISALPHA(Py_UCS4 c) noexcept

cdef enum:
    NEEDS_MORE = 0
    NO_MARK = -2
    MAX_AHEAD = 300
    # A sentence that is longer is cut at a blank: the caller waits for it.
    MAX_HELD = 280
    BY_SENTENCE = -1

cdef enum Mode:
    TEXT
    FENCE           # a block of code
    LINK            # the address behind a link's text
    REFERENCE       # the name of a link's address
    DEFINITION      # the rest of a line that says what an address is
    HOST            # an address that stands in the text: its host is spoken
    PATH            # the rest of it
    HIDDEN          # the contents of <think>, <script> and the like
    COMMENT
    TAG_END         # up to the end of a tag
    CITATION        # a mark of OpenAI's between two private characters

cdef enum Ends:
    NOT
    FULL_STOP       # one, which may belong to an abbreviation
    BEFORE_BLANK    # if a blank follows
    AT_ONCE         # as in Chinese and Japanese

assert shaping.BY_SENTENCE == BY_SENTENCE

cdef extern from *:
    """
    /* 1: passes at any place within a line; 2: begins an address at the beginning of a word; 0: is looked at. */
    static const unsigned char se_clear[128] = {
        0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,
        1,0,1,0,0,1,0,1,0,1,0,1,1,1,1,1, 1,1,1,1,1,1,1,1,1,1,0,1,0,0,0,1,
        1,1,1,1,1,1,1,1,2,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,2,1,1,1,0,0,0,0,0,
        0,1,1,1,1,1,1,1,2,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,2,1,1,1,1,0,1,0,0
    };
    """
    const unsigned char se_clear[128]

cdef frozenset ABBREVIATIONS = frozenset(
    "al approx apr aug ave bzw ca co dec dept dr est etc feb fig fr hr inc jan jr jul jun ltd mar mr mrs ms mt no nov nr"
    " oct prof rd sep sept sr sra st str tel usw vgl vs".split()
)


cdef int add(Chars* chars, Py_UCS4 c) except -1:
    cdef void* data
    cdef Py_ssize_t room
    if chars.size == chars.room:
        room = 2 * chars.room if chars.room else 32
        data = PyMem_Realloc(chars.data, room * sizeof(Py_UCS4))
        if data is NULL:
            raise MemoryError
        chars.data = <Py_UCS4*>data
        chars.room = room
    chars.data[chars.size] = c
    chars.size += 1
    return 0


cdef str taken(Chars* chars):
    """Return the characters as a text, and leave none."""
    if chars.size == 0:
        return ""
    text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, chars.data, chars.size)
    chars.size = 0
    return text


include "_shape_chars.pxi"
include "_shape_ahead.pxi"
include "_shape_marks.pxi"
include "_shape_brackets.pxi"
include "_shape_addresses.pxi"
include "_shape_emphasis.pxi"
include "_shape_lines.pxi"
include "_shape_modes.pxi"
include "_shape_tags.pxi"


cdef Shaper shaper_of(object shape):
    cdef Shaper shaper
    parts = parts_of(shape)
    if parts is None:
        return None
    shaper = Shaper.__new__(Shaper)
    shaper.plain, shaper.by = parts
    return shaper


cdef class Shaper:
    def __cinit__(self, shape="plain"):
        parts = parts_of(shape)
        self.plain, self.by = (False, 0) if parts is None else parts
        self._at_line = True
        self._mode = TEXT

    def __dealloc__(self):
        PyMem_Free(self._in.data)
        PyMem_Free(self._out.data)
        PyMem_Free(self._blanks.data)
        PyMem_Free(self._held.data)

    def feed(self, str text not None):
        text = self.stripped(text)
        if self.by:
            return self.chunks(text)
        return [text] if text else []

    def finish(self):
        cdef str text = self.rest()
        cdef list found
        if not self.by:
            return [text] if text else []
        found = self.chunks(text)
        text = self.last_chunk()
        if text:
            found.append(text)
        return found

    # --- marks ---

    cdef str stripped(self, str text):
        """Return what of the text so far is decided on and was not returned yet."""
        cdef Py_ssize_t place, size
        cdef int kind
        cdef const void* data
        if not self.plain or self._is_clear(text):
            return text
        size = PyUnicode_GET_LENGTH(text)
        kind = PyUnicode_KIND(text)
        data = PyUnicode_DATA(text)
        for place in range(size):
            add(&self._in, PyUnicode_READ(kind, data, place))
        self._strip()
        return taken(&self._out)

    cdef str rest(self):
        """Return the rest, now that no more text comes."""
        cdef Py_ssize_t place
        self._is_ending = True
        self._strip()
        if not self._has_dropped:
            for place in range(self._blanks.size):
                add(&self._out, self._blanks.data[place])
        elif self._blanks.size and self._last:
            add(&self._out, c" ")  # what continues the answer begins a word
        self._blanks.size = 0
        return taken(&self._out)

    cdef bint _is_clear(self, str text) noexcept:
        """Return whether a text within a line is without marks, as most are; its last character is noted."""
        cdef const unsigned char* data
        cdef Py_ssize_t place, size = PyUnicode_GET_LENGTH(text)
        cdef unsigned char c
        cdef Py_UCS4 before = self._prev
        if (
            self._at_line or self._mode != TEXT or self._in.size or self._blanks.size or self._has_dropped or not size
            or not PyUnicode_IS_ASCII(text)
        ):
            return False
        data = <const unsigned char*>PyUnicode_DATA(text)
        c = data[size - 1]
        if c == c" " or c == c"-":
            return False
        for place in range(size):
            c = data[place]
            if se_clear[c] != 1 and (se_clear[c] == 0 or not is_word(before)):
                return False
            before = c
        self._prev = self._last = before
        self._after_picture = False
        place = size
        while place and size - place < 16 and (is_word(data[place - 1]) or data[place - 1] == c"_"):
            place -= 1
        if place:
            self._word_size = self._word_before = 0
        for place in range(place, size):
            note_word(self, data[place])
        return True

    cdef int _strip(self) except -1:
        cdef Py_ssize_t place = 0, count, left
        while place < self._in.size:
            count = step(self, place)
            if count == NEEDS_MORE:
                break
            place += count
        if place:
            left = self._in.size - place
            for count in range(left):
                self._in.data[count] = self._in.data[place + count]
            self._in.size = left
        return 0

    cpdef bint is_hiding(self) noexcept:
        """Whether the text so far ends within what is left out until a mark closes it."""
        return self._mode == HIDDEN or self._mode == COMMENT or (self._mode == FENCE and not self._fence_opens)

    # --- chunks ---

    cdef list chunks(self, str text):
        """Return the chunks that the text makes whole."""
        cdef Py_ssize_t place, size = PyUnicode_GET_LENGTH(text)
        cdef int kind = PyUnicode_KIND(text)
        cdef const void* data = PyUnicode_DATA(text)
        cdef Py_UCS4 c
        found = []
        for place in range(size):
            c = PyUnicode_READ(kind, data, place)
            if self._ends == AT_ONCE and not (ends_at_once(c) or closes_sentence(c) or is_blank(c)):
                found.append(taken(&self._held))
                self._ends = NOT
            add(&self._held, c)
            if self._is_over(c):
                found.append(taken(&self._held))
        return found

    cdef str last_chunk(self):
        self._ends = NOT
        self._words = 0
        self._in_word = False
        return taken(&self._held)

    cdef bint _is_over(self, Py_UCS4 c) except -1:
        """Return whether a chunk ends after the character that was added last."""
        cdef bint is_over = False
        if not is_blank(c):
            self._in_word = True
            if self.by == BY_SENTENCE:
                if c == c"." and self._ends == NOT:
                    self._ends = FULL_STOP
                elif ends_at_once(c):
                    self._ends = AT_ONCE
                elif c == c"." or c == c"!" or c == c"?" or c == 0x2026:
                    self._ends = BEFORE_BLANK
                elif not closes_sentence(c):
                    self._ends = NOT
            return False
        if not self._in_word:
            return False  # blanks before the first word
        if self.by != BY_SENTENCE:
            if not is_blank(self._held.data[self._held.size - 2]):
                self._words += 1
            is_over = self._words >= self.by
        else:
            is_over = (
                c == c"\n" or self._held.size >= MAX_HELD or self._ends == BEFORE_BLANK or self._ends == AT_ONCE
                or (self._ends == FULL_STOP and not self._is_abbreviation())
            )
            self._ends = NOT
        if is_over:
            self._words = 0
            self._in_word = False
        return is_over

    cdef bint _is_abbreviation(self) except -1:
        """Return whether the full stop before the last character belongs to a word: "Dr.", "e.g.", "J.", "1."."""
        cdef Py_ssize_t end = self._held.size - 2, begin
        while end > 0 and self._held.data[end] != c".":
            end -= 1  # quotes and brackets behind it
        if end < self._held.size - 2:
            return False
        begin = end
        while begin > 0 and not is_blank(self._held.data[begin - 1]) and self._held.data[begin - 1] != c"(":
            begin -= 1
        word = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._held.data + begin, end - begin)
        if len(word) <= 1 or "." in word or word.lower() in ABBREVIATIONS:
            return not word.isdecimal() or begin == 0
        return word.isdecimal() and begin == 0
