"""Text of others made harmless for logs, terminals and pages: escaped, cut, and never an exception."""


cdef extern from "Python.h":
    Py_UCS4 PyUnicode_READ(int kind, const void* data, Py_ssize_t index) nogil
    void PyUnicode_WRITE(int kind, void* data, Py_ssize_t index, Py_UCS4 value) nogil
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 max_character)

cdef enum:
    SHOWN = 128  # characters

cdef const char* DIGITS = b"0123456789abcdef"


cdef inline int size_of(Py_UCS4 c, bint keep_lines) noexcept nogil:
    """Return how many characters show this one: 1 if it is shown as it is."""
    if c < 0x7F:
        if c >= 0x20 or c == 0x09 or (keep_lines and c == 0x0A):
            return 1
        return 2 if c == 0x0A or c == 0x0D else 4
    if c < 0xA0:
        return 4
    # Line separators, marks that change the direction of text, and halves of surrogate pairs.
    if (
        0x2028 <= c <= 0x202E or 0x2066 <= c <= 0x2069 or 0xD800 <= c <= 0xDFFF
        or c == 0x200E or c == 0x200F or c == 0x061C
    ):
        return 6
    return 1


cdef inline Py_ssize_t escape(int kind, void* data, Py_ssize_t at, Py_UCS4 c, int size) noexcept nogil:
    """Write an escape sequence as Python's `repr` writes it; return the place after it."""
    cdef int shift
    PyUnicode_WRITE(kind, data, at, 0x5C)
    if size == 2:
        PyUnicode_WRITE(kind, data, at + 1, c"n" if c == 0x0A else c"r")
        return at + 2
    PyUnicode_WRITE(kind, data, at + 1, c"x" if size == 4 else c"u")
    at += 2
    shift = 4 if size == 4 else 12
    while shift >= 0:
        PyUnicode_WRITE(kind, data, at, DIGITS[(<unsigned int>c >> shift) & 0xF])
        at += 1
        shift -= 4
    return at


cdef str shown(str text, Py_ssize_t limit, bint keep_lines):
    cdef int kind = PyUnicode_KIND(text), made_kind, size
    cdef void* data = PyUnicode_DATA(text)
    cdef void* made_data
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(text), used = 0, total = 0, at = 0
    cdef Py_UCS4 c, widest = 0x7F
    cdef bint is_clean = True
    while used < length:
        c = PyUnicode_READ(kind, data, used)
        size = size_of(c, keep_lines)
        if limit >= 0 and total + size > limit:
            break
        total += size
        used += 1
        if size != 1:
            is_clean = False
        elif c > widest:
            widest = c
    if is_clean:
        return text if used == length else text[:used]
    made = PyUnicode_New(total, widest)
    made_kind = PyUnicode_KIND(made)
    made_data = PyUnicode_DATA(made)
    for index in range(used):
        c = PyUnicode_READ(kind, data, index)
        size = size_of(c, keep_lines)
        if size == 1:
            PyUnicode_WRITE(made_kind, made_data, at, c)
            at += 1
        else:
            at = escape(made_kind, made_data, at, c, size)
    return made


def printable(str text not None, *, bint keep_lines=False):
    """Escape control characters, line ends, marks of direction and halves of surrogate pairs.

    Args:
        text: any text, such as one of a peer.
        keep_lines: whether line feeds stay.
    """
    return shown(text, -1, keep_lines)


def cut(str text not None, Py_ssize_t limit=SHOWN):
    """Escape a text and cut it, never inside of an escape sequence.

    Args:
        limit: the most characters that are shown.
    """
    return shown(text, limit, False)


def text_of(value, *, bint as_repr=False):
    """Return `str(value)`, or a description of the value if its own code fails. Never raises an exception.

    Args:
        as_repr: use `repr` instead.
    """
    try:
        text = repr(value) if as_repr else str(value)
        # A subclass of str may replace any method.
        return text if type(text) is str else str.__str__(text)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__} whose text fails with {type(error).__name__}>"
