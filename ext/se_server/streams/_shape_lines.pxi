# Marks at the beginning of a line: headings, lists, quotes, rules, and the fences of code.

cdef Py_ssize_t line_mark(Shaper self, Py_ssize_t i) except -1:
    cdef Py_UCS4 c = self._in.data[i]
    cdef Py_ssize_t count
    if is_blank(c):
        return mark_within(self, i)
    if c == c"`" or c == c"~":
        count = run_of(self, i)
        if count == 0 or count < 3:
            return NEEDS_MORE if count == 0 else NO_MARK
        return begin_fence(self, i, count)
    if c == c"#":
        count = run_of(self, i)
        if count == 0 and i + 6 >= self._in.size:
            return NEEDS_MORE
        if 0 < count <= 6 and (i + count >= self._in.size or is_blank(self._in.data[i + count])):
            self._in_heading = True
            return leave_out(self, i, count)
        return NO_MARK
    if c == c">":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if is_digit(char_at(self, i + 1)) or char_at(self, i + 1) == c"=":
            return NO_MARK
        self._in_quote = True
        return leave_out(self, i, 1)
    if c == c"-" or c == c"*" or c == c"_" or c == c"=" or c == c"|" or c == c":":
        count = rule_mark(self, i)
        if count != NO_MARK:
            return count
    if c == c"|":
        count = table_row(self, i)
        if count == OPEN:
            return NEEDS_MORE
        self._in_table = count
        return NO_MARK
    if c == c"-" or c == c"*" or c == c"+" or is_bullet(c):
        if lacks(self, i + 1):
            return NEEDS_MORE
        if i + 1 >= self._in.size or is_blank(self._in.data[i + 1]):
            if c == c"-" and char_at(self, i + 1) == c" ":
                count = degrees_ahead(self, i + 2)
                if count == OPEN:
                    return NEEDS_MORE
                if count:
                    return NO_MARK
            return leave_out(self, i, 1)
    elif is_arrow(c):
        return leave_out(self, i, 1)
    elif c == c"[":
        return bracket_first(self, i)
    return NO_MARK


cdef Py_ssize_t begin_fence(Shaper self, Py_ssize_t i, Py_ssize_t count) noexcept:
    self._mode = FENCE
    self._fence = self._in.data[i]
    self._fence_size = count
    self._fence_opens = True
    self._fence_quote = self._in_quote
    return leave_out(self, i, count)


cdef int degrees_ahead(Shaper self, Py_ssize_t i) except -1:
    """Whether degrees stand at place `i`: "- 5 °C" has a minus, "- 5 apples" is an item."""
    cdef Py_ssize_t j = i
    while j < self._in.size and j - i < 12 and (is_digit(self._in.data[j]) or (
        j > i and (self._in.data[j] == c"." or self._in.data[j] == c"," or self._in.data[j] == c" ")
    )):
        j += 1
    if j - i < 12 and lacks(self, j):
        return OPEN
    return j > i and char_at(self, j) == 0xB0


cdef Py_ssize_t rule_mark(Shaper self, Py_ssize_t i) except -1:
    """A line of marks alone: a rule, the line under a heading, the line under a table's head, an empty item."""
    cdef Py_UCS4 first = self._in.data[i], c = 0
    cdef bint is_table = first == c"-" or first == c"|" or first == c":"
    cdef Py_ssize_t j = i, marks = 0
    while j < self._in.size and j - i < MAX_AHEAD:
        c = self._in.data[j]
        if c == first or (is_table and (c == c"-" or c == c"|" or c == c":")):
            marks += 1
        elif not is_blank(c) or c == c"\n":
            break
        j += 1
    if j - i >= MAX_AHEAD:
        return NO_MARK
    if lacks(self, j):
        return NEEDS_MORE
    if j < self._in.size and c != c"\n":
        return NO_MARK
    if (first == c"=" and marks < 3) or (first == c":" and not any_of(&self._in, i, j, c"-")):
        return NO_MARK
    return leave_out(self, i, j - i + (j < self._in.size))  # with its line end
