# Square brackets: links, the names of their addresses, footnotes, the numbers of sources. Other brackets stay.

cdef Py_ssize_t bracket(Shaper self, Py_ssize_t i) except -1:
    cdef Py_ssize_t count = sources(self, i)
    cdef int found
    if count != NO_MARK:
        return count
    found = link_ahead(self, i)
    if found == OPEN:
        return NEEDS_MORE
    if found == HALF and not is_interval(self, i):
        return leave_out(self, i, 1)
    if found == HALF or self._brackets >= 60:
        return keep_as_is(self, i, 1)
    self._links = self._links << 1 | <unsigned long long>(found != 0)
    self._brackets += 1
    return leave_out(self, i, 1) if found else keep_as_is(self, i, 1)


cdef Py_ssize_t closing_bracket(Shaper self, Py_ssize_t i) except -1:
    cdef bint is_link = self._brackets > 0 and self._links & 1
    if self._brackets:
        self._brackets -= 1
        self._links >>= 1
    if not is_link:
        return keep_as_is(self, i, 1)
    if char_at(self, i + 1) == c"(":
        self._mode = LINK
        self._parentheses = 1
    else:
        self._mode = REFERENCE
    return leave_out(self, i, 2)


cdef Py_ssize_t sources(Shaper self, Py_ssize_t i) except -1:
    """Leave out footnotes' marks and the numbers of sources. "Press [1] to go on" and "arr[1]" have none."""
    cdef Py_ssize_t end = sources_end(self, i), j
    cdef bint is_note = char_at(self, i + 1) == c"^", is_glued = not is_blank(self._prev) and self._prev != 0
    if end == OPEN:
        return NEEDS_MORE
    if end == HALF and is_note:
        return leave_out(self, i, self._in.size - i)
    if end <= 0:
        return NO_MARK
    if lacks(self, end):
        return NEEDS_MORE
    if is_note:
        return leave_out(self, i, end - i)
    if char_at(self, end) == c"(":
        if not is_glued:
            return NO_MARK  # a link whose text is a number
        found = destination(self, end)
        if found == OPEN:
            return NEEDS_MORE
        if found != ADDRESS:
            return NO_MARK
        self._mode = LINK
        self._parentheses = 1
        return leave_out(self, i, end - i + 1)
    if is_glued:
        if is_index(self) or last_word_in(self, KEYS):
            return NO_MARK
        return leave_out(self, i, end - i)
    j = end
    while j < self._in.size and j - end < 8 and (self._in.data[j] == c" " or self._in.data[j] == c"\t"):
        j += 1
    if j - end < 8 and lacks(self, j):
        return NEEDS_MORE
    if self._keeps_sources or self._is_first or last_word_in(self, KEYS) or last_word_in(self, NEED_NOUN) or not (
        char_at(self, j) == 0 or char_at(self, j) == c"\n" or (j == end and (
            follows_closely(char_at(self, j)) or char_at(self, j) == c")" or char_at(self, j) == c"[")
        )
    ):
        self._keeps_sources = True
        return NO_MARK
    return leave_out(self, i, end - i)


cdef bint is_index(Shaper self) except -1:
    """Whether brackets behind the last word are a program's: "x[1][2]", "row_ids[3]"."""
    cdef int place
    if self._last == c"]" and not self._has_dropped:
        return True
    if not is_word(self._prev) or not self._word_size:
        return False
    if self._word_size == 1 and c"a" <= self._word[0] <= c"z":
        return True
    for place in range(self._word_size):
        if self._word[place] == c"_":
            return True
    return last_word_in(self, ARRAYS)


cdef bint last_word_in(Shaper self, frozenset words) except -1:
    """Whether the name that was put last is one of some words; blanks may stand behind it."""
    cdef int size = self._word_size or self._word_before
    return size > 0 and PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._word, size).lower() in words


cdef bint is_interval(Shaper self, Py_ssize_t i) noexcept:
    """Whether a bracket that nothing closes begins an interval: "[0, 1)"."""
    cdef Py_ssize_t j = i + 1
    cdef bint has_comma = False
    while j < self._in.size and j - i < 40 and self._in.data[j] != c"\n" and self._in.data[j] != c"(":
        if self._in.data[j] == c")":
            return has_comma
        has_comma = has_comma or self._in.data[j] == c","
        j += 1
    return False


cdef Py_ssize_t bracket_first(Shaper self, Py_ssize_t i) except -1:
    """A bracket at the beginning of a line: the box of a task, or what a footnote or an address says."""
    cdef Py_ssize_t j = i + 1, begin
    cdef bint is_note, is_number, is_address = False
    if lacks(self, i + 1) or (is_box(char_at(self, i + 1)) and (
        lacks(self, i + 2) or (char_at(self, i + 2) == c"]" and lacks(self, i + 3))
    )):
        return NEEDS_MORE
    if is_box(char_at(self, i + 1)) and char_at(self, i + 2) == c"]" and (
        is_blank(char_at(self, i + 3)) or char_at(self, i + 3) == 0
    ):
        return leave_out(self, i, 3)
    while j < self._in.size and j - i < MAX_LABEL and self._in.data[j] != c"]" and self._in.data[j] != c"[" \
            and self._in.data[j] != c"\n":
        j += 1
    if j - i < MAX_LABEL and (lacks(self, j) or lacks(self, j + 1)):
        return NEEDS_MORE
    if char_at(self, j) == c"]" and char_at(self, i + 1) == c"!" and char_at(self, j + 1) in (0, c"\n"):
        return leave_out(self, i, j + 1 - i)  # the kind of an alert: [!NOTE]
    if char_at(self, j) != c"]" or char_at(self, j + 1) != c":" or j == i + 1:
        return NO_MARK
    is_note = char_at(self, i + 1) == c"^"
    is_number = is_digit(char_at(self, i + 1))
    j += 2
    if is_note:
        return leave_out(self, i, j - i)  # the note itself is spoken
    begin = j
    while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] == c" ":
        j += 1
    while j < self._in.size and j - i < MAX_AHEAD and not is_blank(self._in.data[j]):
        if self._in.data[j] in (c"/", c".", c":", c"#", c"@", c"<"):
            is_address = True
        j += 1
    if j - i < MAX_AHEAD:
        if lacks(self, j):
            return NEEDS_MORE
        while j < self._in.size and self._in.data[j] == c" ":
            j += 1
        if lacks(self, j):
            return NEEDS_MORE
        if not (char_at(self, j) == 0 or char_at(self, j) in (c"\n", c'"', c"'", c"(")):
            is_address = False
    if is_address:
        self._mode = DEFINITION
        return leave_out(self, i, begin - i)
    return leave_out(self, i, begin - i) if is_number else NO_MARK


# --- mathematics, whose marks are one or two characters ---

cdef Py_ssize_t math(Shaper self, Py_ssize_t i, Py_ssize_t size, Py_ssize_t end) except -1:
    """Put what is said of mathematics; the marks at both ends have `size` characters each."""
    self._has_dropped = True
    text = say_formula(PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + i + size, end - i - size))
    for c in <str>text:
        if is_blank(c):
            add(&self._blanks, c)
        else:
            put_one(self, c)
    self._has_dropped = True
    self._prev = self._in.data[end + size - 1]
    return end + size - i


cdef Py_ssize_t dollar(Shaper self, Py_ssize_t i) except -1:
    """Mathematics between dollars, or a currency."""
    cdef Py_ssize_t count = run_of(self, i), end
    if count == 0:
        return NEEDS_MORE
    if count > 2:
        return keep_as_is(self, i, count)
    end = math_end(self, i + 2, c"$") if count == 2 else dollar_end(self, i)
    if end == OPEN:
        return NEEDS_MORE
    return keep_as_is(self, i, count) if end == 0 else math(self, i, count, end)


cdef Py_ssize_t backslash(Shaper self, Py_ssize_t i) except -1:
    """It makes a mark a character like others, breaks a line, or begins mathematics."""
    cdef Py_UCS4 following
    cdef Py_ssize_t end
    if lacks(self, i + 1):
        return NEEDS_MORE
    following = char_at(self, i + 1)
    if following == c"(" or following == c"[":
        end = math_end(self, i + 2, c")" if following == c"(" else c"]")
        if end == OPEN:
            return NEEDS_MORE
        if end:
            return math(self, i, 2, end)
    if following == c"b":
        end = environment_end(self, i) or box_end(self, i)
        if end == OPEN:
            return NEEDS_MORE
        if end:
            return math(self, i, 0, end)
    if is_punctuation(following):
        leave_out(self, i, 1)
        return 1 + keep_as_is(self, i + 1, 1)
    if following == c"\n" or following == 0:
        return leave_out(self, i, 1)
    return keep_as_is(self, i, 1)
