"""Shapes the text of an answer for speech, as it comes."""

cdef struct Chars:
    Py_UCS4* data
    Py_ssize_t size
    Py_ssize_t room


cdef class Shaper:
    cdef readonly bint plain        # marks are left out
    cdef readonly int by            # a chunk has so many words; BY_SENTENCE; 0: chunks are as they come
    cdef bint _is_ending            # no more text will come
    # Marks: the text that was read and not decided on yet, and what it has come to.
    cdef Chars _in
    cdef Chars _out
    cdef Chars _blanks              # between what was put last and what comes
    cdef int _mode
    cdef bint _at_line              # nothing but marks and blanks stood in this line
    cdef bint _has_dropped          # something was left out since the last character was put
    cdef bint _in_heading
    cdef bint _in_code
    cdef bint _in_angles
    cdef bint _in_table
    cdef bint _in_marker            # between == and ==
    cdef bint _is_first             # nothing was put in this line before
    cdef bint _keeps_sources        # figures in brackets are no sources in this line
    cdef int _stars                 # the open run of *
    cdef bint _has_underscore       # an underscore is open
    cdef bint _has_tilde
    cdef bint _has_caret
    cdef bint _after_picture
    cdef bint _parts_words          # a picture was left out: the words on both sides are two
    cdef bint _fence_opens          # within the line that opens the block
    cdef bint _in_quote             # a mark of a quotation stands in this line
    cdef int _fence_quote           # 1: the block of code began in a quotation; 2: and its lines have the mark, too
    cdef Py_UCS4 _prev              # the character before, left out or not; 0 at the start
    cdef Py_UCS4 _last              # the character that was put last; 0 at the start
    cdef Py_UCS4 _fence
    cdef Py_ssize_t _fence_size
    cdef Py_ssize_t _brackets       # that are open
    cdef unsigned long long _links  # a bit for each: whether it is a link's
    cdef Py_ssize_t _squares        # open brackets within an address
    cdef Py_UCS4 _word[16]          # the name that was put last
    cdef int _word_size
    cdef int _word_before           # its size, once blanks stand behind it
    cdef Py_ssize_t _parentheses
    cdef str _hidden                # the tag whose contents are left out
    # Chunks: the text that is held until its chunk is whole.
    cdef Chars _held
    cdef int _ends                  # how the text so far may end a sentence
    cdef int _words
    cdef bint _in_word
    cdef str stripped(self, str text)
    cdef str rest(self)
    cdef list chunks(self, str text)
    cdef str last_chunk(self)
    cpdef bint is_hiding(self) noexcept
    cdef bint _is_clear(self, str text) noexcept
    cdef int _strip(self) except -1
    cdef bint _is_over(self, Py_UCS4 c) except -1
    cdef bint _is_abbreviation(self) except -1


cdef Shaper shaper_of(object shape)
