# The user and the password in an address are never spoken.

cdef Py_ssize_t user_end(Shaper self, Py_ssize_t i) except -1:
    """Return the place behind the user and the password of the address whose host may begin at place `i`; 0: none.

    Where a password is not followed by its host, that is the place behind it.
    """
    cdef Py_ssize_t j = i, end = 0, colon = 0
    cdef bint in_path = False, is_secret = False
    cdef Py_UCS4 c = 0
    while j < self._in.size and j - i < MAX_AHEAD:
        c = self._in.data[j]
        if is_blank(c) or c in (c"<", c">", c'"', c"`") or (not colon and c in (c")", c"]", c",")):
            break
        if c == c"@":
            if not in_path or is_secret:
                end = j + 1
        elif in_path:
            pass
        elif c == c"/" or c == c"?" or c == c"#":
            in_path = True
            if not is_secret and not colon:
                break  # a host without a port: nothing is secret in it
        elif c == c":" and not colon:
            colon = j
        elif colon and not is_digit(c) and not (j == colon + 1 and not is_word(c)):
            is_secret = True  # no port
        j += 1
    if j - i < MAX_AHEAD and lacks(self, j):
        return OPEN
    return end if end else j if is_secret and j - i >= MAX_AHEAD or (is_secret and j >= self._in.size) else 0


cdef Py_ssize_t behind_user(Shaper self, Py_ssize_t i, Py_ssize_t end) except -1:
    """Leave out an address up to its host, which is spoken."""
    self._squares = self._parentheses = 0
    self._mode = HOST if is_word(char_at(self, end)) and self._in.data[end - 1] == c"@" else PATH
    return leave_out(self, i, end - i)
