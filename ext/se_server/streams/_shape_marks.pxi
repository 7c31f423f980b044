# Marks at one place: they return how many characters are decided on, NEEDS_MORE, or NO_MARK.

cdef Py_ssize_t step(Shaper self, Py_ssize_t i) except -1:
    cdef Py_ssize_t count
    if self._mode != TEXT:
        count = in_mode(self, i)
        if self._mode != TEXT or count > 0:
            return count
        if count == NEEDS_MORE:
            return NEEDS_MORE
    if self._at_line:
        count = line_mark(self, i)
        if count != NO_MARK:
            return count
        self._is_first = True  # stays until a character is put
        self._at_line = False
    return mark_within(self, i)


cdef bint lacks(Shaper self, Py_ssize_t i) noexcept:
    """Whether place `i` is not there yet."""
    return i >= self._in.size and not self._is_ending


cdef Py_UCS4 char_at(Shaper self, Py_ssize_t i) noexcept:
    """Return the character at place `i`; 0 behind the end."""
    return self._in.data[i] if i < self._in.size else 0


cdef Py_ssize_t run_of(Shaper self, Py_ssize_t i) noexcept:
    """Return the length of the run of equal characters that begins at place `i`; 0 if it may go on."""
    cdef Py_ssize_t j = i
    while j < self._in.size and self._in.data[j] == self._in.data[i]:
        j += 1
    return 0 if lacks(self, j) else j - i


cdef int begins(Shaper self, Py_ssize_t i, const char* word) noexcept:
    """Return 1 if the text at place `i` begins with a word in lower case, 0 if not, -1 if that is open."""
    cdef Py_ssize_t k = 0
    while word[k]:
        if i + k >= self._in.size:
            return 0 if self._is_ending else -1
        if lowered(self._in.data[i + k]) != <unsigned char>word[k]:
            return 0
        k += 1
    return 1


cdef Py_ssize_t leave_out(Shaper self, Py_ssize_t i, Py_ssize_t count) noexcept:
    """Leave characters out."""
    self._prev = self._in.data[i + count - 1]
    self._has_dropped = True
    return count


cdef Py_ssize_t keep_as_is(Shaper self, Py_ssize_t i, Py_ssize_t count) except -1:
    """Put characters as they are."""
    cdef Py_ssize_t j
    for j in range(i, i + count):
        put_one(self, self._in.data[j])
    self._prev = self._in.data[i + count - 1]
    return count


cdef int put_one(Shaper self, Py_UCS4 c) except -1:
    """Put one character, and the blanks before it: as they were, or as few as they may be where marks stood."""
    cdef Py_ssize_t j, lines = 0
    if self._blanks.size:
        if not self._has_dropped:
            for j in range(self._blanks.size):
                add(&self._out, self._blanks.data[j])
        elif self._last:
            for j in range(self._blanks.size):
                lines += self._blanks.data[j] == c"\n"
            if lines:
                add(&self._out, c"\n")
                if lines > 1:
                    add(&self._out, c"\n")
            else:
                add(&self._out, c" ")
        self._blanks.size = 0
    elif self._parts_words and is_word(c) and is_word(self._last) and self._last < 0x2E80:
        add(&self._out, c" ")  # "Hi😀there"
    add(&self._out, c)
    note_word(self, c)
    self._last = c
    self._has_dropped = self._after_picture = self._is_first = self._parts_words = False
    return 0


cdef void note_word(Shaper self, Py_UCS4 c) noexcept:
    """Note the name that is being put."""
    if not (is_word(c) or c == c"_"):
        self._word_size = self._word_before = 0
    elif self._word_size < 16:
        self._word[self._word_size] = c
        self._word_size += 1


cdef int pause(Shaper self) except -1:
    """Put a comma between the words on both sides of an arrow or of a border in a table."""
    if any_of(&self._blanks, 0, self._blanks.size, c"\n"):
        self._has_dropped = True  # it stands first in its line
        return 0
    if self._last and is_word(self._last) or self._last == c")" or self._last == c'"' or self._last == c"%":
        self._blanks.size = 0
        put_one(self, c",")
    self._has_dropped = True
    if self._last and not self._blanks.size:
        add(&self._blanks, c" ")
    return 0


cdef Py_ssize_t mark_within(Shaper self, Py_ssize_t i) except -1:
    cdef Py_UCS4 c = self._in.data[i], following
    cdef Py_ssize_t count
    cdef int found
    if is_blank(c):
        add(&self._blanks, c)
        self._prev = c
        self._after_picture = False
        self._word_before = self._word_size or self._word_before
        self._word_size = 0
        if c == c"\n":
            if self._at_line:
                end_paragraph(self)
            self._at_line = True
            self._in_heading = self._in_code = self._in_angles = self._in_marker = self._keeps_sources = False
            self._has_tilde = self._has_caret = self._in_quote = False
        return 1
    if c == c"*":
        return star(self, i)
    if c == c"_" or c == c"`":
        return underscore(self, i) if c == c"_" else backquote(self, i)
    if self._in_code:
        return code_mark(self, i)
    if c == c"~" or c == c"^":
        return small_mark(self, i)
    if c == c"$":
        return dollar(self, i)
    if c == c"(":
        count = sources_in_parentheses(self, i)
        if count == OPEN:
            return NEEDS_MORE
        return leave_out(self, i, count - i) if count else keep_as_is(self, i, 1)
    if c == c"[":
        return bracket(self, i)
    if c == c"]":
        return closing_bracket(self, i)
    if c == c"<":
        return tag_mark(self, i)
    if c == c"&":
        return entity(self, i)
    if c == c"\\":
        return backslash(self, i)
    if c == c">" and self._in_angles:
        self._in_angles = False
        self._parts_words = True
        return leave_out(self, i, 1)
    if c == c"#" and self._in_heading and is_blank(self._prev):
        count = run_of(self, i)
        if count == 0:
            return NEEDS_MORE
        following = char_at(self, i + count)
        if following == 0 or is_blank(following):
            return leave_out(self, i, count)
        return keep_as_is(self, i, count)
    if c == c"|":
        if not self._in_table:
            if lacks(self, i + 1):
                return NEEDS_MORE
            if is_blank(self._prev) and char_at(self, i + 1) == c" ":
                found = table_head(self, i)
                if found == OPEN:
                    return NEEDS_MORE
                self._in_table = found
            if not self._in_table:
                return keep_as_is(self, i, 1)
        count = i + 1
        while count < self._in.size and count - i < MAX_AHEAD and is_blank(self._in.data[count]) \
                and self._in.data[count] != c"\n":
            count += 1
        if count - i < MAX_AHEAD and lacks(self, count):
            return NEEDS_MORE
        if char_at(self, count) != 0 and char_at(self, count) != c"\n":
            pause(self)
        return leave_out(self, i, 1)
    if c == c"-" or c == c"=":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if char_at(self, i + 1) == c">":
            pause(self)
            return leave_out(self, i, 2)
        if c == c"=" and char_at(self, i + 1) == c"=":
            return marker(self, i)
    elif c == c":":
        return colon(self, i)
    elif (c == c"h" or c == c"H" or c == c"w" or c == c"W") and not is_word(self._prev):
        count = address(self, i)
        if count != NO_MARK:
            return count
    return other_mark(self, i)


cdef Py_ssize_t other_mark(Shaper self, Py_ssize_t i) except -1:
    """A character that has no mark's meaning, or is left out alone."""
    cdef Py_UCS4 c = self._in.data[i]
    cdef Py_ssize_t j
    cdef int found
    if c >= 0x2000:
        if c == 0xE200:  # \ue200 to \ue201 is a citation of OpenAI's
            self._mode = CITATION
            return leave_out(self, i, 1)
        if c == 0x3010:  # 【4:0†source】 is another
            j = i + 1
            while j < self._in.size and j - i < 40 and self._in.data[j] != 0x3011 and self._in.data[j] != c"\n":
                j += 1
            if j - i < 40 and lacks(self, j):
                return NEEDS_MORE
            if char_at(self, j) == 0x3011 and any_of(&self._in, i, j, 0x2020):
                return leave_out(self, i, j - i + 1)
        if is_arrow(c):
            pause(self)
            self._after_picture = True  # an arrow may be an emoji, too
            return leave_out(self, i, 1)
        if is_picture(c) or (c == 0x200D and self._after_picture):
            self._after_picture = True
            if not (c == 0x200D or c == 0xFE0E or c == 0xFE0F or c >= 0xE000 and c <= 0xF8FF):
                self._parts_words = True
            return leave_out(self, i, 1)
    elif c == c"!":
        if lacks(self, i + 1):
            return NEEDS_MORE
        if char_at(self, i + 1) == c"[":
            found = link_ahead(self, i + 1)
            if found == OPEN:
                return NEEDS_MORE
            if found or matching(self, i + 1) == self._in.size - 1:  # or the text ends before the address
                return leave_out(self, i, 1)
    if self._has_dropped and self._blanks.size and (c == c")" or c == c"]"):
        if not any_of(&self._blanks, 0, self._blanks.size, c"\n"):
            self._blanks.size = 0
    elif self._has_dropped and self._blanks.size and follows_closely(c):
        # "Hello 😀." has no blank before its full stop; "about **.net**" has.
        if lacks(self, i + 1):
            return NEEDS_MORE
        if not is_word(char_at(self, i + 1)) and not any_of(&self._blanks, 0, self._blanks.size, c"\n"):
            self._blanks.size = 0
    return keep_as_is(self, i, 1)


cdef Py_ssize_t entity(Shaper self, Py_ssize_t i) except -1:
    """A character by its name in HTML, such as &amp;."""
    cdef Py_ssize_t j = i + 1
    while j < self._in.size and j - i < 10 and (is_word(self._in.data[j]) or self._in.data[j] == c"#"):
        j += 1
    if j - i < 10 and lacks(self, j):
        return NEEDS_MORE
    if j - i > 1 and char_at(self, j) == c";":
        name = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, self._in.data + i, j - i + 1)
        meant = unescape(name)
        if meant != name:
            for c in <str>meant:
                if is_blank(c) or c == 0xA0:
                    add(&self._blanks, c" ")
                elif is_picture(c) or is_arrow(c):
                    self._has_dropped = True
                else:
                    put_one(self, c)
            self._prev = c";"
            return j - i + 1
    return keep_as_is(self, i, 1)


cdef Py_ssize_t address(Shaper self, Py_ssize_t i) except -1:
    """An address that stands in the text; its host is spoken."""
    cdef int found = begins(self, i, b"http://"), other = begins(self, i, b"https://"), bare = begins(self, i, b"www.")
    cdef Py_ssize_t count, secret
    if found == 0 and other == 0 and bare == 0:
        return NO_MARK
    if found != 1 and other != 1 and bare != 1:
        return NEEDS_MORE
    count = 7 if found == 1 else 8 if other == 1 else 0
    bare = begins(self, i + count, b"www.")
    if bare == -1:
        return NEEDS_MORE
    if bare:
        count += 4
    if lacks(self, i + count):
        return NEEDS_MORE
    secret = user_end(self, i + count)
    if secret == OPEN:
        return NEEDS_MORE
    if secret:
        return behind_user(self, i, secret)
    found = begins(self, i + count, b"http://")
    other = begins(self, i + count, b"https://")
    if found == 1 or other == 1:
        return leave_out(self, i, count)
    if found == -1 or other == -1:
        return NEEDS_MORE
    self._squares = self._parentheses = 0
    if char_at(self, i + count) == c"[":
        self._mode = PATH  # a number stands for the host
        return leave_out(self, i, count)
    if not is_word(char_at(self, i + count)):
        return leave_out(self, i, count)
    self._mode = HOST
    return leave_out(self, i, count)
