# The watch over a stream in place of its package: it stops before the first event that is no text and not silent.
#
# The package decides the meaning of that event, and reads all that follows. So errors, ends and oddities are those of
# the package, and the scanner has to know only the events that a stream consists of.

cdef int watch_piece(Scanner self, const unsigned char* at, const unsigned char* end, list results) except -1:
    """Give the texts of the usual events in a piece; `is_over` once another one was met, or has begun."""
    if self.passed == 0 and at < end and at[0] == BOM[0]:
        self.is_over = True
        return 0
    self.read_sse(at, end, results)
    self.passed += end - at
    if self.is_over:
        while results and not PyUnicode_Check(results[len(results) - 1]):
            results.pop()
    return 0


cdef int watch_event(Scanner self, list results) except -1:
    """Take the blank line behind an event."""
    cdef Py_ssize_t count = len(results)
    cdef Py_ssize_t events = self.events
    cdef bint has_data = self.has_data
    cdef Py_ssize_t i
    self.dispatch(results)
    if has_data:
        if self.events == events or (self.watch == NAMED and not self.has_name):
            self.is_over = True
        for i in range(count, len(results)):
            if not PyUnicode_Check(results[i]):
                self.is_over = True
            elif self.watch == CHAT_ONLY and REPLACEMENT in <str>results[i]:
                self.is_over = True  # Mistral's package reads no lone half of a character
        if self.is_ping and len(results) > count:
            self.is_over = True  # Anthropic's package reads no ping
        if self.watch == CHAT_ONLY and self.high_half is not None:
            self.is_over = True
    elif self.has_name:
        self.is_over = True
    self.has_name = self.is_ping = False
    if self.is_over:
        del results[count:]
        self.high_half = self.half_before
        self.usage = self.usage_before
    else:
        self.half_before = self.high_half
        self.usage_before = self.usage
        self.is_between = True
    return 0


cdef bint is_ascii(const unsigned char* start, Py_ssize_t size) noexcept:
    """Whether all bytes are ASCII; packages raise for bytes that are no UTF-8, wherever they are."""
    cdef Py_ssize_t i
    for i in range(size):
        if start[i] >= 0x80:
            return False
    return True


cdef bint is_digits(Value* value) noexcept:
    """Whether a value is an integer without a sign; null has no digits."""
    cdef const unsigned char* at = value.start
    while at < value.end and c"0" <= at[0] <= c"9":
        at += 1
    return at == value.end


cdef bint is_usual(Scanner self, const unsigned char* start, Py_ssize_t size) noexcept:
    """Whether a line is one of those that a package and the scanner read alike."""
    if size >= 5 and memcmp(start, b"data:", 5) == 0:
        return self.watch != DATA_ONLY or (size > 5 and start[5] == c" ")
    if start[0] == c":":
        return self.watch != DATA_ONLY and is_ascii(start, size)
    if self.watch == NAMELESS or self.watch == DATA_ONLY or size < 7 or memcmp(start, b"event:", 6) != 0:
        return False
    start += 6
    size -= 6
    if start[0] == c" ":
        start += 1
        size -= 1
    self.has_name = True
    self.is_ping = size == 4 and memcmp(start, b"ping", 4) == 0 and self.watch == NAMED
    # OpenAI wraps the events of "thread.*" once more.
    return size > 0 and is_ascii(start, size) and not (size >= 7 and memcmp(start, b"thread.", 7) == 0)
