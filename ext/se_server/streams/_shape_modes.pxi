# Marks with a beginning and an end, between which the text is left out, or spoken in part.

cdef Py_ssize_t in_mode(Shaper self, Py_ssize_t i) except -1:
    """Leave out what is inside; 0 with the mode TEXT: this place is looked at as text."""
    cdef Py_UCS4 c = self._in.data[i]
    cdef int found
    if self._mode == FENCE:
        return in_fence(self, i)
    if self._mode == HOST:
        return in_host(self, i)
    if self._mode == PATH:
        return in_path(self, i)
    if self._mode == COMMENT:
        found = begins(self, i, b"-->")
        if found == -1:
            return NEEDS_MORE
        if found:
            self._mode = TEXT
            return leave_out(self, i, 3)
    elif self._mode == TAG_END:
        if c == c">":
            self._mode = TEXT
    elif self._mode == HIDDEN:
        if c == c"<":
            name = b"</" + self._hidden.encode()
            found = begins(self, i, name)
            if found == -1:
                return NEEDS_MORE
            if found:
                self._mode = TAG_END
    elif c == c"\n":
        self._mode = TEXT
        return NO_MARK
    elif self._mode == LINK:
        self._parentheses += (c == c"(") - (c == c")")
        if self._parentheses == 0:
            self._mode = TEXT
    elif self._mode == REFERENCE:
        if c == c"]":
            self._mode = TEXT
    elif c == 0xE201:  # of a citation
        self._mode = TEXT
    return leave_out(self, i, 1)


cdef Py_ssize_t in_fence(Shaper self, Py_ssize_t i) except -1:
    cdef Py_UCS4 c = self._in.data[i]
    cdef Py_ssize_t count
    if c == c"\n":
        self._fence_opens = False
    elif c == self._fence and (self._fence_opens or self._prev == c"\n"):
        # It closes the block at the beginning of a line, or in its first: ```code```.
        count = run_of(self, i)
        if count == 0:
            return NEEDS_MORE
        if count >= self._fence_size and (self._fence_opens or char_at(self, i + count) == 0
                                          or is_blank(char_at(self, i + count))):
            self._mode = TEXT
            self._at_line = not self._fence_opens
            return leave_out(self, i, count)
        return leave_out(self, i, count)
    elif is_blank(c) and self._prev == c"\n":
        self._has_dropped = True
        return 1  # the mark that closes the block may be indented, as the block in a list is
    return leave_out(self, i, 1)


cdef Py_ssize_t in_host(Shaper self, Py_ssize_t i) except -1:
    """Put the host of an address."""
    cdef Py_UCS4 c = self._in.data[i]
    cdef int found, other
    if lowered(c) == c"h" and not is_word(self._prev):  # an address that follows at once
        found = begins(self, i, b"http://")
        other = begins(self, i, b"https://")
        if found == 1 or other == 1:
            self._mode = TEXT
            return NO_MARK
        if found == -1 or other == -1:
            return NEEDS_MORE
    if is_word(c) or c == c"-":
        return keep_as_is(self, i, 1)
    if c == c"." or c == c":":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if c == c"." and is_word(char_at(self, i + 1)):
            return keep_as_is(self, i, 1)
        if c == c":" and is_digit(char_at(self, i + 1)):
            self._mode = PATH
            return leave_out(self, i, 1)
    elif c == c"/" or c == c"?" or c == c"#":
        self._mode = PATH
        return leave_out(self, i, 1)
    self._mode = TEXT
    return NO_MARK


cdef Py_ssize_t in_path(Shaper self, Py_ssize_t i) except -1:
    """Leave out the rest of an address; the punctuation behind it belongs to the sentence."""
    cdef Py_UCS4 c = self._in.data[i]
    if follows_closely(c) or c == c"'":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if i + 1 < self._in.size and not ends_path(char_at(self, i + 1)):
            return leave_out(self, i, 1)
    elif not ends_path(c):
        return leave_out(self, i, 1)
    self._mode = TEXT
    return NO_MARK


# --- tags ---

cdef Py_ssize_t tag_mark(Shaper self, Py_ssize_t i) except -1:
    """A tag of HTML is left out, and so is its half at the end of the text. "a < b" is no tag."""
    cdef Py_UCS4 c
    cdef Py_ssize_t end, name_end, begin
    cdef int found
    if lacks(self, i + 1):
        return NEEDS_MORE
    c = char_at(self, i + 1)
    if not (is_latin(c) or c == c"/" or c == c"!"):
        return keep_as_is(self, i, 1)
    found = begins(self, i, b"<!--")
    if found == 1:
        self._mode = COMMENT
        return leave_out(self, i, 4)
    if found == -1 and c == c"!":
        return NEEDS_MORE
    for address in (b"http://", b"https://", b"mailto:", b"www."):
        found = begins(self, i + 1, address)
        if found == -1:
            return NEEDS_MORE
        if found:
            self._in_angles = True
            return leave_out(self, i, 1 + (7 if address == b"mailto:" else 0))
    end = tag_end(self, i)
    if end == NEEDS_MORE:
        return NEEDS_MORE
    if end == NO_MARK:
        return keep_as_is(self, i, 1)
    begin = i + 1 + (c == c"/" or c == c"!")
    name_end = begin
    while name_end < end and (is_latin(self._in.data[name_end]) or is_digit(self._in.data[name_end])
                              or self._in.data[name_end] == c"_" or self._in.data[name_end] == c"-"):
        name_end += 1
    name = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + begin, name_end - begin).lower()
    if any_of(&self._in, i, end, c"@") and not any_of(&self._in, i, end, c" "):
        self._in_angles = True  # an address of mail
        return leave_out(self, i, 1)
    if name in BREAKS:
        add(&self._blanks, c"\n")
    if name in HIDING and c != c"/" and char_at(self, end - 1) == c">" and char_at(self, end - 2) != c"/":
        self._hidden = name
        self._mode = HIDDEN
    return leave_out(self, i, end - i)


cdef Py_ssize_t tag_end(Shaper self, Py_ssize_t i) noexcept:
    """Return the place behind the tag; that of the text's end where it ends within the tag."""
    cdef Py_ssize_t j = i + 1, start
    cdef Py_UCS4 c = char_at(self, j), quote
    if c == c"/" or c == c"!":
        j += 1
    start = j
    while j < self._in.size and (is_latin(self._in.data[j]) or is_digit(self._in.data[j]) or self._in.data[j] == c"-"
                                 or self._in.data[j] == c"_" or self._in.data[j] == c":"):
        j += 1
    if j < self._in.size and j > start and (self._in.data[j] == c"@" or self._in.data[j] == c"."
                                            or self._in.data[j] == c"+"):
        while j < self._in.size and j - i < MAX_AHEAD and not is_blank(self._in.data[j]) \
                and self._in.data[j] != c">" and self._in.data[j] != c"<":
            j += 1
        if j < self._in.size and (self._in.data[j] != c">" or not any_of(&self._in, i, j, c"@")):
            return NO_MARK
    elif j < self._in.size and j == start:
        return NO_MARK
    while True:
        while j < self._in.size and j - i < MAX_AHEAD and (self._in.data[j] == c" " or self._in.data[j] == c"/"):
            j += 1
        if j - i >= MAX_AHEAD:
            return NO_MARK
        if j >= self._in.size:
            return j if self._is_ending else NEEDS_MORE
        if self._in.data[j] == c">":
            return j + 1
        if self._in.data[j - 1] != c" ":
            return NO_MARK
        start = j  # an attribute
        while j < self._in.size and j - i < MAX_AHEAD and (is_latin(self._in.data[j]) or is_digit(self._in.data[j])
                                                           or self._in.data[j] == c"-" or self._in.data[j] == c"_"
                                                           or self._in.data[j] == c":"):
            j += 1
        if j < self._in.size and j == start:
            return NO_MARK
        if j >= self._in.size or j - i >= MAX_AHEAD:
            continue
        if self._in.data[j] == c"=":
            j += 1
            quote = char_at(self, j)
            if quote == c'"' or quote == c"'":
                j += 1
                while j < self._in.size and j - i < MAX_AHEAD and self._in.data[j] != quote:
                    j += 1
                j += j < self._in.size and j - i < MAX_AHEAD
                if j < self._in.size and self._in.data[j] != c" " and self._in.data[j] != c"/" \
                        and self._in.data[j] != c">":
                    return NO_MARK
            else:
                while j < self._in.size and j - i < MAX_AHEAD and not is_blank(self._in.data[j]) \
                        and self._in.data[j] != c">":
                    j += 1
        elif self._in.data[j] != c">" and self._in.data[j] != c"/":
            return NO_MARK
