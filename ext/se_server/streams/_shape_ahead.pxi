# Looks ahead from a place without deciding on it: 1 is yes, 0 no, OPEN more text is needed, HALF the text ends first.

cdef enum:
    OPEN = -3
    HALF = -4
    ADDRESS = 2
    MAX_LABEL = 60
    MAX_SOURCES = 60


cdef int closes_ahead(Shaper self, Py_ssize_t i, Py_UCS4 c, Py_ssize_t limit, Py_ssize_t size=0) except -1:
    """Whether a mark that may close stands in this line, behind place `i`: no blank stands before it.

    With a size, it is a run of so many characters, and no word stands behind it.
    """
    cdef Py_ssize_t j = i + 1, begin, depth = 1
    while j < self._in.size and j - i < limit and self._in.data[j] != c"\n":
        if self._in.data[j] != c or self._in.data[j - 1] == c:
            pass
        elif size:
            begin = j
            while j < self._in.size and self._in.data[j] == c:
                j += 1
            if lacks(self, j):
                return OPEN
            if j - begin == size:
                if is_blank(self._in.data[begin - 1]):
                    depth += not is_blank(char_at(self, j))  # another one begins
                elif not is_word(char_at(self, j)):
                    depth -= 1
                    if depth == 0:
                        return 1
        elif not is_blank(self._in.data[j - 1]):
            return 1
        j += 1
    if j < self._in.size or j - i >= limit:
        return 0
    return HALF if self._is_ending else OPEN


cdef Py_ssize_t matching(Shaper self, Py_ssize_t i) except -1:
    """Return the place of the bracket that closes the one at place `i`; 0: there is none in this paragraph."""
    cdef Py_ssize_t j = i + 1, depth = 1
    cdef Py_UCS4 c
    while j < self._in.size and j - i < MAX_AHEAD:
        c = self._in.data[j]
        if c == c"\\":
            j += 1
        elif c == c"[":
            depth += 1
        elif c == c"]":
            depth -= 1
            if depth == 0:
                return j
        elif c == c"\n" and self._in.data[j - 1] == c"\n":
            return 0
        j += 1
    if j - i >= MAX_AHEAD:
        return 0
    return HALF if self._is_ending else OPEN


cdef int destination(Shaper self, Py_ssize_t i) except -1:
    """Whether a link's destination begins at place `i`, its parenthesis; ADDRESS: it surely is an address."""
    cdef Py_ssize_t j = i + 1, depth = 0
    cdef int kind = 1
    cdef bint has_blanks = False
    cdef Py_UCS4 c = 0
    while j < self._in.size and self._in.data[j] == c" ":
        j += 1
    for start in (b"<", b"http", b"www.", b"mailto:", b"tel:"):
        if begins(self, j, start) == 1:
            has_blanks = True  # a blank within it is no end
    while j < self._in.size and j - i < MAX_AHEAD:
        c = self._in.data[j]
        if c == c"\n" or (is_blank(c) and not has_blanks):
            break
        if c == c")" and depth == 0:
            return kind
        depth += (c == c"(") - (c == c")")
        if c == c"/" or c == c"." or c == c":" or c == c"#" or c == c"?" or c == c"@" or c == c"<":
            kind = ADDRESS
        j += 1
    if j - i >= MAX_AHEAD:
        return ADDRESS
    while j < self._in.size and self._in.data[j] == c" ":
        j += 1
    if j >= self._in.size:
        return ADDRESS if self._is_ending else OPEN
    c = self._in.data[j]
    return kind if c == c")" or c == c'"' or c == c"'" or c == c"(" else 0


cdef int link_ahead(Shaper self, Py_ssize_t i) except -1:
    """Whether the bracket at place `i` begins a link, by an address or by the name of one."""
    cdef Py_ssize_t j = matching(self, i), k
    cdef bint is_glued = is_word(self._prev) or self._prev == c"]"
    cdef int kind
    if j <= 0:
        return <int>j
    if lacks(self, j + 1):
        return OPEN
    if char_at(self, j + 1) == c"(":
        kind = destination(self, j + 1)
        return 0 if kind == 1 and is_glued else kind  # handlers[0](event)
    if char_at(self, j + 1) != c"[" or is_glued:
        return 0
    k = j + 2
    while k < self._in.size and k - j < MAX_LABEL and self._in.data[k] != c"]" and self._in.data[k] != c"\n":
        k += 1
    if k - j < MAX_LABEL and lacks(self, k):
        return OPEN
    return k >= self._in.size or self._in.data[k] == c"]"


cdef Py_ssize_t source_end(Shaper self, Py_ssize_t i) except -1:
    """Return the place behind the number of a source, or behind a footnote's mark, at place `i`; 0: it is none."""
    cdef Py_ssize_t j = i + 1, figures = 0
    cdef bint is_note
    if lacks(self, j):
        return OPEN
    if char_at(self, i) != c"[":
        return 0
    is_note = char_at(self, j) == c"^"
    if not is_note and not c"1" <= char_at(self, j) <= c"9":
        return 0
    j += is_note
    while j < self._in.size and j - i < 40:
        if is_digit(self._in.data[j]):
            figures += 1
            if figures > 3 and not is_note:
                return 0  # a year
        elif is_note:
            if is_blank(self._in.data[j]) or self._in.data[j] == c"]":
                break
        else:
            figures = 0
            if not (self._in.data[j] == c"," or self._in.data[j] == c" " or self._in.data[j] == c"-"
                    or self._in.data[j] == 0x2013):
                break
        j += 1
    if j - i < 40 and j >= self._in.size:
        return HALF if self._is_ending else OPEN
    return j + 1 if char_at(self, j) == c"]" and j > i + 1 + is_note else 0


cdef Py_ssize_t sources_end(Shaper self, Py_ssize_t i) except -1:
    """Return the place behind a row of sources, such as "[1], [2][3]"; 0: there is none at place `i`."""
    cdef Py_ssize_t end = source_end(self, i), j, more
    if end <= 0:
        return end
    while end - i < MAX_SOURCES:
        j = end
        while j < self._in.size and j - end < 3 and (
            self._in.data[j] == c"," or self._in.data[j] == c";" or self._in.data[j] == c" "
        ):
            j += 1
        if j - end < 3 and lacks(self, j):
            return OPEN
        more = source_end(self, j) if char_at(self, j) == c"[" else 0
        if more == OPEN:
            return OPEN
        if more <= 0:
            break
        end = more
    return end


cdef Py_ssize_t sources_in_parentheses(Shaper self, Py_ssize_t i) except -1:
    """Return the place behind "(see [1], [2])" at place `i`; 0: it is something else."""
    cdef Py_ssize_t j = i + 1, end
    while j < self._in.size and j - i < 16 and (
        is_latin(self._in.data[j]) or self._in.data[j] == c" " or self._in.data[j] == c"." or self._in.data[j] == c":"
    ):
        j += 1
        if self._in.data[j - 1] == c" " and not is_see(self, i + 1, j):
            return 0
    if j - i < 16 and lacks(self, j):
        return OPEN
    if char_at(self, j) != c"[" or not is_see(self, i + 1, j):
        return 0
    end = sources_end(self, j)
    if end <= 0:
        return OPEN if end == OPEN else 0
    if lacks(self, end):
        return OPEN
    return end + 1 if char_at(self, end) == c")" else 0


cdef bint is_see(Shaper self, Py_ssize_t begin, Py_ssize_t end) except -1:
    word = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + begin, end - begin)
    return word.strip(" .:").lower() in SEE


cdef int table_row(Shaper self, Py_ssize_t i) except -1:
    """Whether the line that begins with a border is a row of a table: it ends with one, too."""
    cdef Py_ssize_t j = i + 1
    cdef Py_UCS4 last = 0
    if self._in_table:
        return 1
    while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] != c"\n":
        if not is_blank(self._in.data[j]):
            last = self._in.data[j]
        j += 1
    if j - i >= MAX_AHEAD or last == c"|":
        return 1 if j - i >= MAX_AHEAD or not lacks(self, j) else OPEN
    if j < self._in.size:
        return 0
    return char_at(self, i + 1) == c" " if self._is_ending else OPEN


cdef int table_head(Shaper self, Py_ssize_t i) except -1:
    """Whether the line under that of place `i` is the one under a table's head."""
    cdef Py_ssize_t j = i
    cdef bint has_dash = False
    while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] != c"\n":
        j += 1
    j += 1
    while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] != c"\n":
        if self._in.data[j] == c"-":
            has_dash = True
        elif not (self._in.data[j] == c"|" or self._in.data[j] == c":" or self._in.data[j] == c" "):
            return 0
        j += 1
    if j - i >= MAX_AHEAD:
        return 0
    return OPEN if lacks(self, j) else has_dash


cdef Py_ssize_t math_end(Shaper self, Py_ssize_t i, Py_UCS4 c) except -1:
    r"""Return the place of the mark that ends the mathematics at place `i`: "$$", "\)" or "\]"; 0: it is none."""
    cdef Py_ssize_t j = i
    cdef bint has_signs = c == c")"
    while j + 1 < self._in.size and j - i < MAX_AHEAD:
        if self._in.data[j] == c"\n" and self._in.data[j + 1] == c"\n":
            return 0
        if self._in.data[j + 1] == c and self._in.data[j] == (c"$" if c == c"$" else c"\\"):
            return j if has_signs and j > i else 0
        if self._in.data[j] in (c"=", c"^", c"_", c"\\", c"+", c"{", c"<", c">"):
            has_signs = True
        j += 1
    return 0 if j - i >= MAX_AHEAD or self._is_ending else OPEN


cdef Py_ssize_t environment_end(Shaper self, Py_ssize_t i) except -1:
    r"""Return the place behind the "\end{align}" of the mathematics at place `i`; 0: it is none."""
    cdef Py_ssize_t j = i
    cdef int found = begins(self, i, b"\\begin{")
    if found != 1:
        return OPEN if found == -1 else 0
    while j < self._in.size and j - i < MAX_AHEAD:
        if self._in.data[j] == c"\\" and begins(self, j, b"\\end{") == 1:
            while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] != c"}":
                j += 1
            if j < self._in.size:
                return j + 1 if self._in.data[j] == c"}" else 0
            break
        j += 1
    return 0 if j - i >= MAX_AHEAD or self._is_ending else OPEN


cdef Py_ssize_t box_end(Shaper self, Py_ssize_t i) except -1:
    r"""Return the place behind the "\boxed{42}" at place `i`, or behind its half at the text's end; 0: it is none.

    Models put it around a final answer outside of formulas, too.
    """
    cdef Py_ssize_t j = i + 6, depth = 0
    cdef int found = begins(self, i, b"\\boxed{")
    cdef Py_UCS4 c
    if found != 1:
        return OPEN if found == -1 else 0
    while j < self._in.size and j - i < MAX_AHEAD:
        c = self._in.data[j]
        if c == c"\\":
            j += 1
        elif c == c"\n" and self._in.data[j - 1] == c"\n":
            return 0
        else:
            depth += (c == c"{") - (c == c"}")
            if depth == 0:
                return j + 1
        j += 1
    if j - i >= MAX_AHEAD:
        return 0
    return self._in.size if self._is_ending else OPEN


cdef Py_ssize_t dollar_end(Shaper self, Py_ssize_t i) except -1:
    """Return the place of the dollar that ends the mathematics behind the one at place `i`; 0: that is a currency."""
    cdef Py_ssize_t j = i + 1, letters = 0, depth = 0
    cdef bint is_price, has_blank = False, is_command = False
    cdef Py_UCS4 c
    if lacks(self, j):
        return OPEN
    is_price = is_digit(char_at(self, j))
    if is_blank(char_at(self, j)) or is_word(self._prev):
        return 0
    while j < self._in.size and j - i < 120:
        c = self._in.data[j]
        if c == c"$":
            if is_blank(self._in.data[j - 1]):
                return 0
            if lacks(self, j + 1):
                return OPEN
            return 0 if is_word(char_at(self, j + 1)) or char_at(self, j + 1) == c"$" else j
        if is_latin(c):
            letters += 1
        else:
            if c == c" " and letters > 3 and not is_command and depth == 0:
                return 0
            letters = 0
            is_command = c == c"\\"
            has_blank = has_blank or c == c" "
        depth += (c == c"{") - (c == c"}")
        if c == c"\n" or (letters > (1 if is_price else 3) and not is_command and depth == 0 and (has_blank or is_price)):
            return 0
        j += 1
    return 0 if j - i >= 120 or self._is_ending else OPEN
