# Tags of HTML, and what they hide.

cdef Py_ssize_t tag_mark(Shaper self, Py_ssize_t i) except -1:
    """A tag of HTML is left out, and so is its half at the end of the text. "a < b" is no tag."""
    cdef Py_UCS4 c
    cdef Py_ssize_t end, name_end, begin
    cdef int found
    if lacks(self, i + 1):
        return NEEDS_MORE
    c = char_at(self, i + 1)
    if c == c"|":
        return special_token(self, i)
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
    if end == NO_MARK or (
        is_word(self._prev) and self._word_size == 1 and is_latin(c) and end > i + 1 and char_at(self, i + 2) != c">"
        and not is_word(char_at(self, i + 2))
    ):
        return keep_as_is(self, i, 1)  # "a < b"
    begin = i + 1 + (c == c"/" or c == c"!")
    name_end = begin
    while name_end < end and (is_latin(self._in.data[name_end]) or is_digit(self._in.data[name_end])
                              or self._in.data[name_end] == c"_" or self._in.data[name_end] == c"-"):
        name_end += 1
    name = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + begin, name_end - begin).lower()
    if any_of(&self._in, i, end, c"@") and not any_of(&self._in, i, end, c" "):
        self._in_angles = True  # an address of mail
        return leave_out(self, i, 1)
    if is_word(self._prev) and c != c"/" and name not in TAGS:
        return keep_as_is(self, i, 1)  # "List<String>"
    if c != c"/" and name not in MODEL_TAGS and is_word_in_angles(self, i, end, name_end):
        self._in_angles = True
        return leave_out(self, i, 1)  # "press <enter>"
    if name == "sup" and c != c"/" and is_word(self._prev):
        if lacks(self, end):
            return NEEDS_MORE
        if not is_latin(char_at(self, end)):
            put_one(self, c"^")
    if name in BREAKS:
        add(&self._blanks, c"\n")
    if name in CELLS and c != c"/":
        pause(self)
    if name in HIDING and c != c"/" and char_at(self, end - 1) == c">" and char_at(self, end - 2) != c"/":
        found = 1 if self._is_first else closing_tag(self, end, name)
        if found == OPEN:
            return NEEDS_MORE
        if found != HALF:  # else the word is only mentioned
            self._hidden = name
            self._mode = HIDDEN
    return leave_out(self, i, end - i)


cdef bint is_word_in_angles(Shaper self, Py_ssize_t i, Py_ssize_t end, Py_ssize_t name_end) except -1:
    """Whether a tag's name stands alone in it, and the text goes on or could not go on to a tag's name."""
    if self._in.data[end - 1] == c">":
        return end == name_end + 1
    if end != name_end:
        return False
    half = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + i + 1, end - i - 1).lower()
    for name in MODEL_TAGS:
        if (<str>name).startswith(half):
            return False
    return True


cdef Py_ssize_t special_token(Shaper self, Py_ssize_t i) except -1:
    """A token of a model's own, such as <|im_end|>, is left out."""
    cdef Py_ssize_t j = i + 2
    while j < self._in.size and j - i < 40 and (
        is_latin(self._in.data[j]) or is_digit(self._in.data[j]) or self._in.data[j] == c"_" or self._in.data[j] == c"-"
    ):
        j += 1
    if j - i < 40 and (lacks(self, j) or (char_at(self, j) == c"|" and lacks(self, j + 1))):
        return NEEDS_MORE
    if j > i + 2 and (j >= self._in.size or (char_at(self, j) == c"|" and char_at(self, j + 1) in (0, c">"))):
        return leave_out(self, i, min(j + 2, self._in.size) - i)
    return keep_as_is(self, i, 1)


cdef int closing_tag(Shaper self, Py_ssize_t i, str name) except -1:
    """Whether a tag is closed soon behind place `i`, or the text is that long."""
    cdef Py_ssize_t j = i
    closing = b"</" + name.encode()
    while j < self._in.size and j - i < MAX_AHEAD:
        if self._in.data[j] == c"<":
            if begins(self, j, closing) == 1:
                return 1
        j += 1
    if j - i >= MAX_AHEAD:
        return 1
    return HALF if self._is_ending else OPEN


cdef bint is_flag(Shaper self, Py_ssize_t begin, Py_ssize_t end) except -1:
    return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + begin, end - begin).lower() in FLAGS


cdef bint begins_attribute(Shaper self, Py_ssize_t begin, Py_ssize_t end) except -1:
    half = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + begin, end - begin).lower()
    for name in ATTRIBUTES:
        if (<str>name).startswith(half):
            return True
    return False


cdef Py_ssize_t tag_end(Shaper self, Py_ssize_t i) except -1:
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
        if (j < self._in.size and self._in.data[j] != c">") or not (
            any_of(&self._in, i, j, c"@") or lacks(self, j) or (j >= self._in.size and not is_word(self._prev))
        ):
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
        if is_digit(self._in.data[j]):
            return NO_MARK
        while j < self._in.size and j - i < MAX_AHEAD and (is_latin(self._in.data[j]) or is_digit(self._in.data[j])
                                                           or self._in.data[j] == c"-" or self._in.data[j] == c"_"
                                                           or self._in.data[j] == c":"):
            j += 1
        if j < self._in.size and j == start:
            return NO_MARK
        if j >= self._in.size or j - i >= MAX_AHEAD:
            if self._is_ending and not begins_attribute(self, start, j):
                return NO_MARK
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
        elif not (self._in.data[j] == c" " or self._in.data[j] == c">" or self._in.data[j] == c"/") \
                or not is_flag(self, start, j):
            return NO_MARK
