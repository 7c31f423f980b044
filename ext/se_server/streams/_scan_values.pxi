# Members of an object and items of an array, found in JSON that lies in memory: nothing is made but what is asked for.

MAX_MESSAGE_CHARS = 1000
MAX_KEYS = 8
MAX_KEY_CHARS = 64

cdef str REPLACEMENT = "\ufffd"
cdef object MAX_TOKENS = 10**15  # a count above it is a provider's mistake

cdef enum:
    LONGEST_NAME = 24
    MAX_TYPE_BYTES = 80
    MAX_ERROR_BYTES = 4 * 1000                 # of UTF-8: what MAX_MESSAGE_CHARS may take

cdef struct Word:
    const char* text
    Py_ssize_t size


cdef inline Word word(const char* text) noexcept:
    cdef Word made
    made.text = text
    made.size = strlen(text)
    return made


cdef int find_members(Scan* scan, const Word* words, int count, Value* found) noexcept nogil:
    """Read an object from its brace to behind its end; the last member of each name counts, as in `json`.

    Args:
        found: as many as `words`; MISSING where there is none.
    """
    cdef Value name, other
    cdef Value* value
    cdef unsigned char room[6 * LONGEST_NAME]
    cdef const unsigned char* written
    cdef Py_ssize_t size
    cdef int i
    for i in range(count):
        found[i].kind = MISSING
    scan.at += 1
    skip_blanks(scan)
    if scan.at < scan.end and scan.at[0] == c"}":
        scan.at += 1
        return 0
    while True:
        if scan_name(scan, &name) < 0:
            return -1
        written = name.start + 1
        size = name.end - name.start - 2
        if name.escaped:
            # Never longer than it was.
            size = unescape(written, written + size, room) if size <= 6 * LONGEST_NAME else -1
            written = room
        value = &other
        for i in range(count):
            if words[i].size == size and memcmp(words[i].text, written, size) == 0:
                value = &found[i]
                break
        if scan_value(scan, value, 1) < 0:
            return -1
        skip_blanks(scan)
        if scan.at < scan.end and scan.at[0] == c"}":
            scan.at += 1
            return 0
        if expect(scan, c",", b"expected ',' or '}'") < 0:
            return -1


cdef inline bint look_into(Value* value, const Word* words, int count, Value* found) noexcept nogil:
    """Find the members of a value that was checked before; false, and none found, if it is not an object."""
    cdef Scan scan
    cdef int i
    if value.kind != OBJECT:
        for i in range(count):
            found[i].kind = MISSING
        return False
    scan.at = scan.start = value.start
    scan.end = value.end
    return find_members(&scan, words, count, found) == 0


cdef inline void open_array(Value* array, Scan* scan) noexcept nogil:
    scan.at = scan.start = array.start + 1
    scan.end = array.end


cdef inline bint next_item(Scan* scan, Value* item) noexcept nogil:
    """The next item of an array that was checked before."""
    skip_blanks(scan)
    if scan.at < scan.end and scan.at[0] == c",":
        scan.at += 1
        skip_blanks(scan)
    return scan.at < scan.end and scan.at[0] != c"]" and scan_value(scan, item, 1) == 0


cdef inline bint equals(Value* value, const char* text) noexcept:
    """Whether a string is this ASCII text, however it is escaped."""
    cdef Py_ssize_t size = value.end - value.start - 2
    if value.kind != STRING:
        return False
    if value.escaped:
        return string_of(value) == text.decode("ascii")
    return <size_t>size == strlen(text) and memcmp(value.start + 1, text, size) == 0


cdef inline bint is_true(Value* value) noexcept nogil:
    return value.kind == BOOLEAN and value.start[0] == c"t"


cdef inline bint is_zero(Value* value) except -1:
    if value.end - value.start == 1:
        return value.start[0] == c"0"
    return count_of(value) == 0


cdef str string_of(Value* value):
    """A scanned string, lone surrogates included."""
    cdef Py_ssize_t size = value.end - value.start - 2
    cdef unsigned char stack[1024]
    cdef unsigned char* room = stack
    if not value.escaped:
        return PyUnicode_DecodeUTF8(<const char*>value.start + 1, size, NULL)
    if size > 1024:
        room = <unsigned char*>PyMem_Malloc(size)
        if room == NULL:
            raise MemoryError()
    try:
        size = unescape(value.start + 1, value.end - 1, room)
        if size >= 0:
            return PyUnicode_DecodeUTF8(<const char*>room, size, NULL)
    finally:
        if room != stack:
            PyMem_Free(room)
    return json.loads(value.start[: value.end - value.start])


cdef str well_formed(str text):
    """Join the halves of each surrogate pair; one that is alone becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


cdef str label_of(Value* value, Py_ssize_t max_chars):
    """A string for people, of bounded length; None if it is not a string, or empty."""
    if value.kind != STRING or value.end - value.start == 2:
        return None
    return well_formed(string_of(value)[:max_chars])


cdef object count_of(Value* value):
    """A number of tokens; None if it cannot be one."""
    cdef Py_ssize_t size = value.end - value.start
    cdef long long small = 0
    cdef Py_ssize_t i
    cdef object number
    if value.kind != NUMBER:
        return None
    if value.integral and size <= 15 and value.start[0] != c"-":
        for i in range(size):
            small = 10 * small + (value.start[i] - c"0")
        return small
    # No integer has more digits than a float can hold here: `int` would refuse thousands of them.
    number = float(value.start[: value.end - value.start])
    return int(number) if 0 <= number < MAX_TOKENS else None
