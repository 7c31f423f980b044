# Messages of the server: JSON, read in place.
#
# The texts of an answer differ only in their content. The bytes around the content and the id of a message are kept,
# and
# the next message is first compared with them; one that does not match is parsed.

cdef enum:
    AROUND = 128  # bytes of a shape's part, at most
    SHAPES = 2  # texts and finals

cdef struct Part:
    unsigned char data[AROUND]
    Py_ssize_t size

cdef struct Shape:
    bint is_known
    bint has_id_first
    Part before
    Part between
    Part after

cdef struct Heard:
    bint is_response
    bint has_our_id
    bint is_final
    Value content
    const char* fault


cdef inline bint is_text(Value* value, const char* text, Py_ssize_t size) noexcept nogil:
    return value.end - value.start == size + 2 and memcmp(value.start + 1, text, size) == 0


cdef inline bint keep_part(Part* part, const unsigned char* start, const unsigned char* end) noexcept nogil:
    part.size = end - start
    if part.size > AROUND:
        return False
    memcpy(part.data, start, part.size)
    return True


cdef inline bint meets(Scan* scan, const void* data, Py_ssize_t size) noexcept nogil:
    if scan.end - scan.at < size or memcmp(scan.at, data, size) != 0:
        return False
    scan.at += size
    return True


cdef inline bint meets_string(Scan* scan, Value* value) noexcept nogil:
    return scan.at < scan.end and scan.at[0] == c'"' and scan_string(scan, value) == 0


cdef inline bint has_shape(Shape* shape, Scan* scan, const unsigned char* our_id, Py_ssize_t id_size, Heard* heard) noexcept nogil:
    scan.at = scan.start
    if not shape.is_known or not meets(scan, shape.before.data, shape.before.size):
        return False
    if shape.has_id_first:
        if not meets(scan, our_id, id_size) or not meets(scan, shape.between.data, shape.between.size):
            return False
        if not meets_string(scan, &heard.content):
            return False
    else:
        if not meets_string(scan, &heard.content) or not meets(scan, shape.between.data, shape.between.size):
            return False
        if not meets(scan, our_id, id_size):
            return False
    return meets(scan, shape.after.data, shape.after.size) and scan.at == scan.end


cdef void learn_shape(Shape* shape, Scan* scan, Value* content, Value* event_id) noexcept nogil:
    cdef Value* first = event_id
    cdef Value* second = content
    shape.has_id_first = event_id.start < content.start
    if not shape.has_id_first:
        first, second = content, event_id
    shape.is_known = (
        keep_part(&shape.before, scan.start, first.start)
        and keep_part(&shape.between, first.end, second.start)
        and keep_part(&shape.after, second.end, scan.end)
    )


cdef int read_message(
    Shape* shapes, const unsigned char* data, Py_ssize_t size, const unsigned char* our_id, Py_ssize_t id_size, Heard* heard
) noexcept nogil:
    """Read a message; return -1 with a `fault` if it is not a JSON object or breaks the protocol."""
    cdef Scan scan
    cdef Value name, value, kind, event_id, is_final
    cdef int final
    heard.fault = NULL
    scan.start = scan.at = data
    scan.end = data + size
    for final in range(SHAPES):
        if has_shape(&shapes[final], &scan, our_id, id_size, heard):
            heard.is_response = heard.has_our_id = True
            heard.is_final = final
            return 0
    scan.at = data
    scan.names_byte = False
    scan.reason = NULL
    kind.kind = event_id.kind = is_final.kind = heard.content.kind = MISSING
    heard.is_response = heard.has_our_id = heard.is_final = False
    is_final.start = data
    skip_blanks(&scan)
    if scan.at >= scan.end or scan.at[0] != c"{":
        heard.fault = b"a text that is not a JSON object"
        return -1
    scan.at += 1
    skip_blanks(&scan)
    if scan.at < scan.end and scan.at[0] == c"}":
        scan.at += 1
    else:
        while True:
            if scan_name(&scan, &name) < 0 or scan_value(&scan, &value, 1) < 0:
                heard.fault = b"a text that is not JSON"
                return -1
            if is_text(&name, b"type", 4):
                kind = value
            elif is_text(&name, b"content", 7):
                heard.content = value
            elif is_text(&name, b"event_id", 8):
                event_id = value
            elif is_text(&name, b"is_final", 8):
                is_final = value
            skip_blanks(&scan)
            if scan.at < scan.end and scan.at[0] == c",":
                scan.at += 1
                continue
            if scan.at >= scan.end or scan.at[0] != c"}":
                heard.fault = b"a text that is not JSON"
                return -1
            scan.at += 1
            break
    skip_blanks(&scan)
    if scan.at != scan.end:
        heard.fault = b"a text with something after its JSON object"
        return -1
    if kind.kind != STRING:
        heard.fault = b"a message without a type"
        return -1
    if not is_text(&kind, b"agent_response", 14):
        return 0
    if heard.content.kind != STRING:
        heard.fault = b"an agent_response whose content is not a string"
        return -1
    if event_id.kind != NUMBER or not event_id.integral:
        heard.fault = b"an agent_response whose event_id is not an integer"
        return -1
    if is_final.kind != BOOLEAN:
        heard.fault = b"an agent_response whose is_final is not a boolean"
        return -1
    heard.is_response = True
    heard.is_final = is_final.start[0] == c"t"
    heard.has_our_id = event_id.end - event_id.start == id_size and memcmp(event_id.start, our_id, id_size) == 0
    learn_shape(&shapes[heard.is_final], &scan, &heard.content, &event_id)
    return 0


cdef Py_ssize_t cut_before(const unsigned char* data, Py_ssize_t size, Py_ssize_t most) noexcept nogil:
    """Return how much of a JSON string's inside fits in `most` bytes without splitting a character or an escape."""
    cdef Py_ssize_t at = 0, step
    while at < size:
        if data[at] == c"\\":
            step = 2
            if data[at + 1] == c"u":
                step = 6
                # A surrogate pair is one character.
                if (data[at + 2] | 0x20) == c"d" and (hex_value(data[at + 3]) & 0xC) == 8 and size - at >= 12:
                    step = 12
        elif data[at] < 0x80:
            step = 1
        else:
            step = 2 if data[at] < 0xE0 else 3 if data[at] < 0xF0 else 4
        if at + step > most:
            break
        at += step
    return at
