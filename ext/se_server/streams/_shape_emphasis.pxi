# Marks around words. A sign that stands between words or figures, or that nothing closes, stays.

cdef int end_paragraph(Shaper self) noexcept:
    self._stars = 0
    self._has_underscore = self._in_table = False
    self._brackets = 0
    return 0


cdef Py_ssize_t star(Shaper self, Py_ssize_t i) except -1:
    cdef Py_ssize_t count = run_of(self, i)
    cdef Py_UCS4 before = self._prev, following
    cdef int found
    if count == 0:
        return NEEDS_MORE
    following = char_at(self, i + count)
    if count > 3:
        return leave_out(self, i, count)
    if (self._stars == 0 or count != self._stars) and is_quoted(before, following):
        return keep_as_is(self, i, count)  # "*"
    if self._stars == 0 and count > 1 and is_blank(before) and follows_closely(following):
        if lacks(self, i + count + 1):
            return NEEDS_MORE
        if not is_word(char_at(self, i + count + 1)):
            return keep_as_is(self, i, count)  # "press *, ** or ***."; but **.net**
    if is_blank(before) and is_blank(following):
        return keep_as_is(self, i, count) if count <= 2 else leave_out(self, i, count)
    if count <= 2 and is_digit(before) and is_digit(following):
        return keep_as_is(self, i, count)
    if is_word(before) and is_word(following):
        if self._stars and not self._in_code:
            self._stars = 0
            return leave_out(self, i, count)
        if self._in_code or (count == 1 and self._word_size == 1):
            return keep_as_is(self, i, count)
        found = closes_ahead(self, i + count, c"*", 200)
    elif before != 0 and not is_blank(before) and (following == 0 or not is_word(following)) and not opens_quote(before):
        if self._in_code and before != c"`":
            return keep_as_is(self, i, count)
        if self._stars == 0 and count == 1 and (is_digit(before) or before == c"#"):
            return keep_as_is(self, i, 1)  # "5*", the star of a telephone
        self._stars = 0
        return leave_out(self, i, count)
    elif count == 1 and (is_digit(following) or following == c"#"):
        found = closes_ahead(self, i + 1, c"*", 60, 1)  # "dial *69"
    elif count == 1 and (following == 0 or follows_closely(following) or following == c")") and not self._in_code:
        found = 0 if following else 1  # "press *."
    else:
        found = 1
    if found == OPEN:
        return NEEDS_MORE
    if found == 1:
        self._stars = <int>count
        return leave_out(self, i, count)
    return keep_as_is(self, i, count)


cdef bint is_quoted(Py_UCS4 before, Py_UCS4 following) noexcept:
    """Whether what stands between two characters is quoted alone."""
    if before == c'"' or before == c"'" or before == c"`":
        return following == before
    return (
        (before == c"(" and following == c")") or (before == c"[" and following == c"]")
        or (before == 0x201C and following == 0x201D) or (before == 0x2018 and following == 0x2019)
        or (before == 0x201E and (following == 0x201C or following == 0x201D))
        or (before == 0xAB and following == 0xBB) or (before == 0xBB and following == 0xAB)
        or (before == 0x300C and following == 0x300D)
    )


cdef bint opens_quote(Py_UCS4 c) noexcept:
    return c == c"(" or c == c"[" or c == c'"' or c == c"'" or c == 0x201C or c == 0x2018 or c == 0xAB or c == 0x201E


cdef Py_ssize_t underscore(Shaper self, Py_ssize_t i) except -1:
    cdef Py_ssize_t count = run_of(self, i)
    cdef Py_UCS4 following
    cdef int found
    if count == 0:
        return NEEDS_MORE
    following = char_at(self, i + count)
    if is_word(self._prev) and is_word(following):
        if not self._in_code:
            return keep_as_is(self, i, count)
        add(&self._blanks, c" ")  # a name of a program is spoken as its words
        return leave_out(self, i, count)
    if is_quoted(self._prev, following) or (count > 3 and not is_word(self._prev) and not is_word(following)):
        return keep_as_is(self, i, count)  # "_", and a gap: "fill the ____."
    if self._in_code or count >= 4:
        return leave_out(self, i, count)
    if self._has_underscore and not is_blank(self._prev) and not is_word(following):
        self._has_underscore = False
        return leave_out(self, i, count)
    if is_word(self._prev) or following == 0 or is_blank(following):
        return keep_as_is(self, i, count)
    found = closes_ahead(self, i + count, c"_", MAX_AHEAD, count)
    if found == OPEN:
        return NEEDS_MORE
    if found != 1:
        return keep_as_is(self, i, count)
    self._has_underscore = True
    return leave_out(self, i, count)


cdef Py_ssize_t backquote(Shaper self, Py_ssize_t i) except -1:
    cdef Py_ssize_t count = run_of(self, i)
    cdef int found
    if count == 0:
        return NEEDS_MORE
    if not self._in_code and count == 1 and is_word(self._prev) and is_word(char_at(self, i + 1)):
        found = closes_ahead(self, i + 1, c"`", 60)
        if found == OPEN:
            return NEEDS_MORE
        if found != 1:
            return keep_as_is(self, i, 1)  # an apostrophe
    if count > 2 and not self._in_code:
        found = fence_within(self, i + count)
        if found == OPEN:
            return NEEDS_MORE
        if found:
            return begin_fence(self, i, count)
    self._in_code = not self._in_code
    return leave_out(self, i, count)


cdef int fence_within(Shaper self, Py_ssize_t i) except -1:
    """Whether a block of code begins in the middle of a line: nothing but its language stands behind the mark."""
    cdef Py_ssize_t j = i
    while j < self._in.size and j - i < 24 and (is_word(self._in.data[j]) or self._in.data[j] in (
        c"+", c"-", c"#", c"_", c"."
    )):
        j += 1
    while j < self._in.size and j - i < 24 and (self._in.data[j] == c" " or self._in.data[j] == c"\r"):
        j += 1
    if j - i < 24 and lacks(self, j):
        return OPEN
    return char_at(self, j) == c"\n"


cdef Py_ssize_t code_mark(Shaper self, Py_ssize_t i) except -1:
    """Code is spoken as it stands, but for the brackets of a tag: "the `<b>` tag"."""
    cdef Py_UCS4 c = self._in.data[i]
    cdef Py_ssize_t found
    if c == c"<":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if not is_word(self._prev) and (is_latin(char_at(self, i + 1)) or char_at(self, i + 1) == c"/"):
            self._in_angles = True
            return leave_out(self, i, 1)
    elif c == c">" and self._in_angles:
        self._in_angles = False
        return leave_out(self, i, 1)
    elif c == c":":
        if lacks(self, i + 1) or (char_at(self, i + 1) == c"/" and lacks(self, i + 2)):
            return NEEDS_MORE
        if char_at(self, i + 1) == c"/" and char_at(self, i + 2) == c"/":
            found = user_end(self, i + 3)
            if found == OPEN:
                return NEEDS_MORE
            keep_as_is(self, i, 3)
            return 3 + (leave_out(self, i + 3, found - i - 3) if found else 0)
    elif is_picture(c) or is_arrow(c):
        return other_mark(self, i)
    return keep_as_is(self, i, 1)


cdef Py_ssize_t small_mark(Shaper self, Py_ssize_t i) except -1:
    """Struck words, H~2~O and x^2^. "~5" and "2^10" are none of these."""
    cdef Py_UCS4 c = self._in.data[i], following
    cdef Py_ssize_t count = run_of(self, i), j = i + 1
    cdef bint is_open = self._has_tilde if c == c"~" else self._has_caret
    if count == 0:
        return NEEDS_MORE
    following = char_at(self, i + count)
    if c == c"~" and count > 1:
        return keep_as_is(self, i, count) if is_blank(self._prev) and is_blank(following) else leave_out(self, i, count)
    if count > 1:
        return keep_as_is(self, i, count)
    if is_open:
        set_small(self, c, False)
        return leave_out(self, i, 1)
    if following == 0 or is_blank(following) or is_digit(self._prev) and c == c"~":
        return keep_as_is(self, i, 1)
    if c == c"~" and not is_word(self._prev) and (is_digit(following) or following == c"/"):
        return keep_as_is(self, i, 1)  # "~5", "~/directory"
    if c == c"^" and not (is_word(self._prev) or self._prev == c")"):
        return keep_as_is(self, i, 1)
    while j < self._in.size and j - i < 60 and self._in.data[j] != c and self._in.data[j] != c"\n" and (
        not is_blank(self._in.data[j]) or (c == c"~" and not is_word(self._prev))
    ):
        j += 1
    if j - i < 60 and lacks(self, j):
        return NEEDS_MORE
    if char_at(self, j) != c or j == i + 1 or is_blank(char_at(self, j - 1)) or j - i >= 60:
        return keep_as_is(self, i, 1)
    set_small(self, c, True)
    if c == c"^" and not is_latin(following):
        return keep_as_is(self, i, 1)
    return leave_out(self, i, 1)


cdef void set_small(Shaper self, Py_UCS4 c, bint is_open) noexcept:
    if c == c"~":
        self._has_tilde = is_open
    else:
        self._has_caret = is_open


cdef Py_ssize_t marker(Shaper self, Py_ssize_t i) except -1:
    """==Marked words==; "a == b" and "a==b" compare."""
    cdef Py_ssize_t count = run_of(self, i)
    cdef int found
    if count == 0:
        return NEEDS_MORE
    if count == 2 and self._in_marker and not is_blank(self._prev):
        self._in_marker = False
        return leave_out(self, i, 2)
    if count != 2 or is_word(self._prev) or not is_word(char_at(self, i + 2)):
        return keep_as_is(self, i, count)
    found = closes_ahead(self, i + 2, c"=", 80)
    if found == OPEN:
        return NEEDS_MORE
    if found != 1:
        return keep_as_is(self, i, 2)
    self._in_marker = True
    return leave_out(self, i, 2)


cdef Py_ssize_t colon(Shaper self, Py_ssize_t i) except -1:
    """An address of another kind, ftp://host, or an emoji by its name, :smile:."""
    cdef Py_ssize_t j = i + 1, found
    cdef bint has_letter = False
    if lacks(self, i + 1):
        return NEEDS_MORE
    if char_at(self, i + 1) == c"/" and self._word_size > 1:
        if lacks(self, i + 2) or (char_at(self, i + 2) == c"/" and lacks(self, i + 3)):
            return NEEDS_MORE
        if char_at(self, i + 2) == c"/":
            found = user_end(self, i + 3)
            if found == OPEN:
                return NEEDS_MORE
            if found:
                add(&self._blanks, c" ")
                return behind_user(self, i, found)
        if char_at(self, i + 2) == c"/" and (
            is_word(char_at(self, i + 3)) or char_at(self, i + 3) == 0 or char_at(self, i + 3) == c":"
        ):
            add(&self._blanks, c" ")
            self._squares = self._parentheses = 0
            self._mode = HOST
            return leave_out(self, i, 3)
    elif not is_word(self._prev) and self._prev != c":":
        while j < self._in.size and j - i < 32 and (
            is_latin(self._in.data[j]) or is_digit(self._in.data[j]) or self._in.data[j] in (c"_", c"+", c"-")
        ):
            has_letter = has_letter or is_latin(self._in.data[j])
            j += 1
        if j - i < 32 and (lacks(self, j) or (self._in.data[j] == c":" and lacks(self, j + 1))):
            return NEEDS_MORE
        if has_letter and j - i > 2 and char_at(self, j) == c":" and not is_word(char_at(self, j + 1)):
            return leave_out(self, i, j - i + 1)
    return other_mark(self, i)
