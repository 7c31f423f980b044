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
    elif self._mode == DEFINITION:
        pass
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
    """Leave out a block of code, up to the mark that closes it or the end of the quotation that it stands in."""
    cdef Py_UCS4 c = self._in.data[i], following
    cdef Py_ssize_t count
    cdef bint is_first = self._prev == c"\n"
    if is_first and not self._fence_opens and self._fence_quote and not self._in_quote:
        if c == c">":
            self._fence_quote = 2
            self._in_quote = self._has_dropped = True
            return 1  # the mark that closes the block may follow
        if c == c"\n" or not (is_blank(c) or c == self._fence):
            if self._fence_quote == 2:
                self._mode = TEXT  # the quotation is over
                self._at_line = True
                return NO_MARK
            self._fence_quote = 0
    if c == c"\n":
        self._fence_opens = self._in_quote = False
    elif c == self._fence:
        count = run_of(self, i)
        if count == 0 or lacks(self, i + count):
            return NEEDS_MORE
        following = char_at(self, i + count)
        # It closes the block at the beginning of a line, at the end of one, or in its first: ```code```.
        if count >= self._fence_size and (
            self._fence_opens or following == 0 or following == c"\n" or following == c"\r"
            or (is_first and (is_blank(following) or follows_closely(following)))
        ):
            self._mode = TEXT
            self._at_line = not self._fence_opens
        return leave_out(self, i, count)
    elif is_blank(c) and is_first:
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
    if c == c"(" or c == c"[" or (c == c")" and self._parentheses) or (c == c"]" and self._squares):
        self._parentheses += (c == c"(") - (c == c")")
        self._squares += (c == c"[") - (c == c"]")
        return leave_out(self, i, 1)
    if self._squares and not is_blank(c):
        return leave_out(self, i, 1)
    if follows_closely(c) or c == c"'":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if i + 1 < self._in.size and not ends_path(char_at(self, i + 1)):
            return leave_out(self, i, 1)
    elif not ends_path(c):
        return leave_out(self, i, 1)
    self._mode = TEXT
    return NO_MARK
