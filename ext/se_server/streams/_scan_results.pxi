# The results that one event may have: a text, a refusal, a failure, an unknown event; and the tokens it counts.

cdef str NO_MESSAGE = "the provider gave no message"
cdef str BLOCKED = "blocked"

cdef Word[3] IN_PART
IN_PART[:] = [word(b"type"), word(b"text"), word(b"thought")]
cdef Word[4] IN_ERROR
IN_ERROR[:] = [word(b"message"), word(b"code"), word(b"status"), word(b"type")]
# OpenAI chat, Mistral, groq; OpenAI Responses and Anthropic, whose cached tokens are counted apart.
cdef Word[7] IN_USAGE
IN_USAGE[:] = [
    word(b"prompt_tokens"), word(b"completion_tokens"), word(b"input_tokens"), word(b"output_tokens"),
    word(b"cache_creation_input_tokens"), word(b"cache_read_input_tokens"), word(b"tokens"),
]
cdef Word[3] IN_METADATA
IN_METADATA[:] = [word(b"promptTokenCount"), word(b"candidatesTokenCount"), word(b"thoughtsTokenCount")]


cdef int give_text(Scanner self, Value* value, bint is_refusal, list results) except -1:
    """Give a delta, joined to the half of a character that the one before it may have ended with."""
    cdef str text
    cdef str half = self.refused_high_half if is_refusal else self.high_half
    if value.end - value.start == 2:
        return 0
    text = string_of(value)
    if half is not None or value.escaped:
        text = joined(self, half, text, is_refusal)
        if not text:
            return 0
    if is_refusal:
        return PyList_Append(results, Refusal(text))
    self.has_text = True
    return PyList_Append(results, text)


cdef str joined(Scanner self, str half, str text, bint is_refusal):
    if half is not None:
        text = half + text
        half = None
    if text and 0xD800 <= ord(text[len(text) - 1]) < 0xDC00:
        half = text[len(text) - 1]
        text = text[: len(text) - 1]
    if is_refusal:
        self.refused_high_half = half
    else:
        self.high_half = half
    return text if text.isascii() else well_formed(text)


cdef int give_content(Scanner self, Value* content, list results) except -1:
    """A string, or an array of parts of which those of type "text" are spoken."""
    cdef Value item
    cdef Value[3] part
    cdef Scan scan
    if content.kind == STRING:
        return give_text(self, content, False, results)
    if content.kind == ARRAY:
        open_array(content, &scan)
        while next_item(&scan, &item):
            if look_into(&item, IN_PART, 3, part) and part[1].kind == STRING and equals(&part[0], b"text"):
                give_text(self, &part[1], False, results)
    return 0


cdef int give_failure(str kind, str message, str code, list results) except -1:
    return PyList_Append(results, Failure(kind, message or NO_MESSAGE, code))


cdef int give_error(Value* error, list results) except -1:
    """The failure that an error object, or an error's text, describes."""
    cdef Value[4] parts
    cdef str code = None
    cdef int i
    if not look_into(error, IN_ERROR, 4, parts):
        return give_failure("error", label_of(error, MAX_MESSAGE_CHARS), None, results)
    for i in range(1, 4):
        if code is None:
            code = label_of(&parts[i], MAX_KEY_CHARS)
    if code is None and parts[1].kind == NUMBER:
        code = parts[1].start[: min(parts[1].end - parts[1].start, MAX_KEY_CHARS)].decode("ascii")
    return give_failure("error", label_of(&parts[0], MAX_MESSAGE_CHARS), code, results)


cdef int give_block(Scanner self, str name, str reason, str message, list results) except -1:
    """An answer that the provider held back. After some text it is an end like any other."""
    if self.has_text:
        return 0
    return give_failure(BLOCKED, message or f"{name}: {reason}", reason, results)


cdef int give_unknown(const unsigned char* start, const unsigned char* end, Value* type, list results) except -1:
    cdef Scan scan
    cdef Value name, value
    cdef list keys = []
    cdef str key
    scan.at = scan.start = start + 1
    scan.end = end
    while len(keys) < MAX_KEYS and scan_name(&scan, &name) == 0:
        key = label_of(&name, MAX_KEY_CHARS) or ""
        if key not in keys:
            keys.append(key)
        if scan_value(&scan, &value, 1) < 0:
            break
        skip_blanks(&scan)
        if scan.at < scan.end and scan.at[0] == c",":
            scan.at += 1
    return PyList_Append(results, Unknown(label_of(type, MAX_KEY_CHARS), tuple(keys)))


cdef int keep_usage(Scanner self, object input_tokens, object output_tokens) except -1:
    """Usage is told in parts, or again and again with what it has come to: the last of each counts."""
    cdef Usage before = self.usage
    if input_tokens is None and output_tokens is None:
        return 0
    if before is not None:
        input_tokens = before.input_tokens if input_tokens is None else input_tokens
        output_tokens = before.output_tokens if output_tokens is None else output_tokens
    self.usage = Usage(input_tokens, output_tokens)
    return 0


cdef object sum_of(object first, object second):
    return second if first is None else first if second is None else first + second


cdef int read_usage(Scanner self, Value* usage) except -1:
    cdef Value[7] parts
    cdef Value tokens
    cdef object input_tokens, output_tokens
    if not look_into(usage, IN_USAGE, 7, parts):
        return 0
    if parts[6].kind == OBJECT:                # Cohere's
        tokens = parts[6]
        look_into(&tokens, IN_USAGE, 7, parts)
    input_tokens, output_tokens = count_of(&parts[0]), count_of(&parts[1])
    if input_tokens is None:
        input_tokens = sum_of(sum_of(count_of(&parts[2]), count_of(&parts[4])), count_of(&parts[5]))
    if output_tokens is None:
        output_tokens = count_of(&parts[3])
    return keep_usage(self, input_tokens, output_tokens)


cdef int read_metadata(Scanner self, Value* metadata) except -1:
    cdef Value[3] parts
    if not look_into(metadata, IN_METADATA, 3, parts):
        return 0
    return keep_usage(self, count_of(&parts[0]), sum_of(count_of(&parts[1]), count_of(&parts[2])))
