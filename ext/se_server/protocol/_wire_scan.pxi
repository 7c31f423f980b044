# The grammar of JSON (RFC 8259), read in place and without recursion: nothing here makes a Python object.
#
# A scan that fails returns -1 and leaves `at` on the first byte that no valid message could have there, or at the end.

cdef enum:
    MAX_LEVELS = 512

cdef enum ValueKind:
    MISSING = 0
    NULL_VALUE
    BOOLEAN
    NUMBER
    STRING
    ARRAY
    OBJECT

cdef struct Scan:
    const unsigned char* at
    const unsigned char* start
    const unsigned char* end
    const char* reason
    bint names_byte                            # the reason is the byte at `at`


cdef struct Value:
    ValueKind kind
    const unsigned char* start                 # of a string: its opening quote
    const unsigned char* end                   # behind its last byte
    bint escaped                               # a string with at least one backslash
    bint wide                                  # a string with at least one byte above 0x7F, valid UTF-8
    bint integral                              # a number without fraction and exponent


cdef inline int fail(Scan* scan, const char* reason) noexcept nogil:
    """The byte at `at` cannot stand there, or is missing."""
    scan.names_byte = scan.at < scan.end
    scan.reason = reason
    if not scan.names_byte:
        scan.reason = b"unexpected end of the message"
    return -1


cdef inline int refuse(Scan* scan, const char* reason) noexcept nogil:
    scan.reason = reason
    return -1


cdef int refuse_start(Scan* scan) noexcept nogil:
    """A message that starts with anything but a brace: what follows is not read."""
    cdef unsigned char byte = scan.at[0]
    if byte == c"[":
        return refuse(scan, b"expected a JSON object, got an array")
    if byte == c'"':
        return refuse(scan, b"expected a JSON object, got a string")
    if byte == c"-" or is_digit(byte):
        return refuse(scan, b"expected a JSON object, got a number")
    if byte == c"t" or byte == c"f":
        return refuse(scan, b"expected a JSON object, got a boolean")
    if byte == c"n":
        return refuse(scan, b"expected a JSON object, got null")
    if scan.end - scan.at >= 3 and memcmp(scan.at, b"\xEF\xBB\xBF", 3) == 0:
        return refuse(scan, b"expected a JSON object, got a byte order mark")
    return fail(scan, b"expected a JSON object")


cdef inline void skip_blanks(Scan* scan) noexcept nogil:
    cdef const unsigned char* at = scan.at
    # One comparison for what nearly always comes next.
    while at < scan.end and at[0] <= c" " and (at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t"):
        at += 1
    scan.at = at


cdef inline int expect(Scan* scan, unsigned char byte, const char* reason) noexcept nogil:
    if scan.at >= scan.end or scan.at[0] != byte:
        return fail(scan, reason)
    scan.at += 1
    return 0


cdef inline bint is_digit(unsigned char byte) noexcept nogil:
    return c"0" <= byte <= c"9"


cdef inline int hex_value(unsigned char byte) noexcept nogil:
    if c"0" <= byte <= c"9":
        return byte - c"0"
    byte |= 0x20
    if c"a" <= byte <= c"f":
        return byte - c"a" + 10
    return -1


cdef inline unsigned long long special_bytes(unsigned long long word) noexcept nogil:
    """Marks, by their top bits, bytes that are a quote, a backslash or a control character; exact up to the first."""
    # Each byte less 1, or less 0x20, has its top bit set where it was too small; a byte above 0x7F had it before.
    cdef unsigned long long small = ((word ^ (ONES * 0x22)) - ONES) | ((word ^ (ONES * 0x5C)) - ONES) | (word - ONES * 0x20)
    return small & ~word & HIGHS


cdef int scan_escape(Scan* scan) noexcept nogil:
    """From behind the backslash to behind the escape."""
    cdef int digits
    if scan.at >= scan.end:
        return fail(scan, NULL)
    if scan.at[0] == c"u":
        scan.at += 1
        for digits in range(4):
            if scan.at >= scan.end or hex_value(scan.at[0]) < 0:
                return fail(scan, b"invalid \\u escape: expected four hexadecimal digits")
            scan.at += 1
        return 0
    if scan.at[0] in (c'"', c"\\", c"/", c"b", c"f", c"n", c"r", c"t"):
        scan.at += 1
        return 0
    return fail(scan, b"invalid escape in a string")


cdef int scan_string(Scan* scan, Value* value) noexcept nogil:
    """From the opening quote to behind the closing one."""
    cdef const unsigned char* at = scan.at + 1
    cdef const unsigned char* end = scan.end
    cdef unsigned long long word, special
    cdef unsigned long long seen = 0
    value.kind = STRING
    value.start = scan.at
    value.escaped = False
    while True:
        while end - at >= WORD:
            word = word_at(at)
            special = special_bytes(word)
            if special:
                seen |= word & ((special & (~special + 1)) - 1)  # the bytes before it
                at += trailing_zeros(special) >> 3
                break
            seen |= word
            at += WORD
        else:
            while at < end and at[0] != c'"' and at[0] != c"\\" and at[0] >= 0x20:
                seen |= at[0]
                at += 1
        scan.at = at
        if at >= end:
            return fail(scan, NULL)
        if at[0] == c'"':
            break
        if at[0] < 0x20:
            return fail(scan, b"raw control character in a string")
        value.escaped = True
        scan.at += 1
        if scan_escape(scan) < 0:
            return -1
        at = scan.at
    value.wide = (seen & HIGHS) != 0
    # Quotes and backslashes are ASCII: a sequence that one of them cuts is found here as well.
    if value.wide and utf8_check(UTF8_ACCEPT, value.start + 1, at - value.start - 1) != UTF8_ACCEPT:
        scan.at = value.start
        return refuse(scan, b"invalid UTF-8")
    scan.at = value.end = at + 1
    return 0


cdef inline int scan_digits(Scan* scan) noexcept nogil:
    if scan.at >= scan.end or not is_digit(scan.at[0]):
        return fail(scan, b"invalid number: expected a digit")
    while scan.at < scan.end and is_digit(scan.at[0]):
        scan.at += 1
    return 0


cdef int scan_number(Scan* scan, Value* value) noexcept nogil:
    value.kind = NUMBER
    value.start = scan.at
    value.integral = True
    if scan.at[0] == c"-":
        scan.at += 1
    if scan.at < scan.end and scan.at[0] == c"0":
        scan.at += 1
        if scan.at < scan.end and is_digit(scan.at[0]):
            return fail(scan, b"invalid number: a digit after a leading zero")
    elif scan_digits(scan) < 0:
        return -1
    if scan.at < scan.end and scan.at[0] == c".":
        value.integral = False
        scan.at += 1
        if scan_digits(scan) < 0:
            return -1
    if scan.at < scan.end and scan.at[0] | 0x20 == c"e":
        value.integral = False
        scan.at += 1
        if scan.at < scan.end and (scan.at[0] == c"+" or scan.at[0] == c"-"):
            scan.at += 1
        if scan_digits(scan) < 0:
            return -1
    value.end = scan.at
    return 0


cdef int scan_word(Scan* scan, Value* value, const char* word, ValueKind kind) noexcept nogil:
    value.kind = kind
    value.start = scan.at
    while word[0]:
        if expect(scan, word[0], b"expected a value (true, false or null)") < 0:
            return -1
        word += 1
    value.end = scan.at
    return 0


cdef int scan_name(Scan* scan, Value* name) noexcept nogil:
    """A member's name, its colon, and the blanks around them."""
    skip_blanks(scan)
    if scan.at >= scan.end or scan.at[0] != c'"':
        return fail(scan, b"expected a name in double quotes")
    if scan_string(scan, name) < 0:
        return -1
    skip_blanks(scan)
    if expect(scan, c":", b"expected ':' after a name") < 0:
        return -1
    skip_blanks(scan)
    return 0


cdef inline bint has_name(Scan* scan, const char* name, Py_ssize_t size) noexcept nogil:
    """Whether a member's usual name stands here: then its colon and the blanks behind it are passed as well.

    Args:
        name: with its quotes and the colon. Other ways to write it are for `scan_name`.
    """
    if scan.end - scan.at < size or memcmp(scan.at, name, size) != 0:
        return False
    scan.at += size
    skip_blanks(scan)
    return True


cdef int skip_container(Scan* scan, int level) noexcept nogil:
    """From an opening bracket or brace, inside `level` others, to behind the closing one."""
    # An explicit stack of the closing bytes that are due: recursion would let a message end the process.
    cdef unsigned char due[MAX_LEVELS]
    cdef Value value
    cdef int outer = level
    while True:
        if scan.at < scan.end and (scan.at[0] == c"{" or scan.at[0] == c"["):
            if level == MAX_LEVELS:
                return refuse(scan, b"nested deeper than 512 levels")
            due[level] = scan.at[0] + 2        # '{' and '}', '[' and ']' stand two apart in ASCII
            level += 1
            scan.at += 1
            skip_blanks(scan)
            if scan.at >= scan.end or scan.at[0] != due[level - 1]:
                if due[level - 1] == c"}" and scan_name(scan, &value) < 0:
                    return -1
                continue
        elif scan_scalar(scan, &value) < 0:
            return -1
        while True:
            skip_blanks(scan)
            if scan.at < scan.end and scan.at[0] == due[level - 1]:
                scan.at += 1
                level -= 1
                if level == outer:
                    return 0
            elif due[level - 1] == c"}":
                if expect(scan, c",", b"expected ',' or '}'") < 0 or scan_name(scan, &value) < 0:
                    return -1
                break
            else:
                if expect(scan, c",", b"expected ',' or ']'") < 0:
                    return -1
                skip_blanks(scan)
                break


cdef inline int scan_scalar(Scan* scan, Value* value) noexcept nogil:
    cdef unsigned char byte
    if scan.at >= scan.end:
        return fail(scan, NULL)
    byte = scan.at[0]
    if byte == c'"':
        return scan_string(scan, value)
    if byte == c"-" or is_digit(byte):
        return scan_number(scan, value)
    if byte == c"t":
        return scan_word(scan, value, b"true", BOOLEAN)
    if byte == c"f":
        return scan_word(scan, value, b"false", BOOLEAN)
    if byte == c"n":
        return scan_word(scan, value, b"null", NULL_VALUE)
    return fail(scan, b"expected a value")


cdef inline int scan_value(Scan* scan, Value* value, int level) noexcept nogil:
    """Any value, inside `level` brackets and braces. What is in a container is checked and skipped."""
    if scan.at < scan.end and (scan.at[0] == c"{" or scan.at[0] == c"["):
        value.kind = OBJECT if scan.at[0] == c"{" else ARRAY
        value.start = scan.at
        if skip_container(scan, level) < 0:
            return -1
        value.end = scan.at
        return 0
    return scan_scalar(scan, value)


cdef Py_ssize_t unescape(const unsigned char* at, const unsigned char* end, unsigned char* out) noexcept nogil:
    """Write a scanned string's inside as UTF-8, never longer than it is; its length, or -1 for a lone surrogate."""
    cdef unsigned char* start = out
    cdef unsigned int code
    while at < end:
        if at[0] != c"\\":
            out[0] = at[0]
            out += 1
            at += 1
            continue
        if at[1] != c"u":
            out[0] = plain_escape(at[1])
            out += 1
            at += 2
            continue
        code = code_unit(at + 2)
        at += 6
        if 0xD800 <= code < 0xE000:
            if code >= 0xDC00 or end - at < 6 or at[0] != c"\\" or at[1] != c"u":
                return -1
            if not 0xDC00 <= code_unit(at + 2) < 0xE000:
                return -1
            code = 0x10000 + ((code - 0xD800) << 10) + (code_unit(at + 2) - 0xDC00)
            at += 6
        out = put_character(out, code)
    return out - start


cdef inline unsigned char plain_escape(unsigned char byte) noexcept nogil:
    if byte == c"n":
        return c"\n"
    if byte == c"t":
        return c"\t"
    if byte == c"r":
        return c"\r"
    if byte == c"b":
        return 0x08
    if byte == c"f":
        return 0x0C
    return byte


cdef inline unsigned int code_unit(const unsigned char* digits) noexcept nogil:
    return (hex_value(digits[0]) << 12) | (hex_value(digits[1]) << 8) | (hex_value(digits[2]) << 4) | hex_value(digits[3])


cdef inline unsigned char* put_character(unsigned char* out, unsigned int code) noexcept nogil:
    """Write one character (no surrogate) as UTF-8; behind it."""
    if code < 0x80:
        out[0] = code
        return out + 1
    if code < 0x800:
        out[0] = 0xC0 | (code >> 6)
        out[1] = 0x80 | (code & 0x3F)
        return out + 2
    if code < 0x10000:
        out[0] = 0xE0 | (code >> 12)
        out[1] = 0x80 | ((code >> 6) & 0x3F)
        out[2] = 0x80 | (code & 0x3F)
        return out + 3
    out[0] = 0xF0 | (code >> 18)
    out[1] = 0x80 | ((code >> 12) & 0x3F)
    out[2] = 0x80 | ((code >> 6) & 0x3F)
    out[3] = 0x80 | (code & 0x3F)
    return out + 4
