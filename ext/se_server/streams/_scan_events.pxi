# The meaning of one event: its text, a refusal, a failure, what it counts; by its JSON, read in place.
#
# An event is first checked as a whole, while the members that any API names are found. Then the few that matter are
# walked into. The rules are those of `_delta.pyx`, and what else the APIs document.

# The members that are looked for in an object, by the object.
cdef enum:
    TYPE, CHOICES, DELTA, CANDIDATES, MESSAGE, ERROR, USAGE, USAGE_METADATA, PROMPT_FEEDBACK, RESPONSE, DONE, CODE
    PROMPT_EVAL_COUNT, EVAL_COUNT, X_GROQ, CONTENT, EVENT_OBJECT, EVENT_WORDS

cdef Word[EVENT_WORDS] IN_EVENT
IN_EVENT[:] = [
    word(b"type"), word(b"choices"), word(b"delta"), word(b"candidates"), word(b"message"), word(b"error"),
    word(b"usage"), word(b"usageMetadata"), word(b"promptFeedback"), word(b"response"), word(b"done"), word(b"code"),
    word(b"prompt_eval_count"), word(b"eval_count"), word(b"x_groq"), word(b"content"), word(b"object"),
]

cdef Word[5] IN_CHOICE
IN_CHOICE[:] = [word(b"index"), word(b"delta"), word(b"finish_reason"), word(b"message"), word(b"text")]
cdef Word[2] IN_MESSAGE
IN_MESSAGE[:] = [word(b"content"), word(b"refusal")]
cdef Word[3] IN_CANDIDATE
IN_CANDIDATE[:] = [word(b"content"), word(b"finishReason"), word(b"finishMessage")]
cdef Word[1] PARTS
PARTS[:] = [word(b"parts")]
cdef Word[2] IN_FEEDBACK
IN_FEEDBACK[:] = [word(b"blockReason"), word(b"blockReasonMessage")]
cdef Word[3] IN_RESPONSE
IN_RESPONSE[:] = [word(b"error"), word(b"incomplete_details"), word(b"usage")]
cdef Word[1] REASON
REASON[:] = [word(b"reason")]
cdef Word[1] USAGE_ONLY
USAGE_ONLY[:] = [word(b"usage")]
# Of Anthropic's and Cohere's deltas.
cdef Word[7] IN_DELTA
IN_DELTA[:] = [
    word(b"type"), word(b"text"), word(b"stop_reason"), word(b"message"), word(b"finish_reason"), word(b"error"),
    word(b"usage"),
]

# Events of a known API that have nothing to speak. OpenAI's are known by their first word.
cdef frozenset SILENT_TYPES = frozenset({
    b"ping", b"keepalive", b"message_start", b"message_delta", b"message_stop", b"content_block_start",
    b"content_block_delta", b"content_block_stop",
    b"message-start", b"message-end", b"content-start", b"content-delta", b"content-end", b"tool-plan-delta",
    b"tool-call-start", b"tool-call-delta", b"tool-call-end", b"citation-start", b"citation-end", b"debug",
})  # fmt: skip

# Why Gemini ends an answer that it does not give.
cdef frozenset GEMINI_BLOCKS = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY", "OTHER",
})


cdef int read_event(
    Scanner self, const unsigned char* start, const unsigned char* end, bint is_error, list results
) except -1:
    """Give what one event says. `is_error` if it was sent under that name."""
    cdef Value[EVENT_WORDS] event
    cdef Scan scan
    if end - start > self.max_event_bytes:
        return self.malformed(f"an event is longer than {self.max_event_bytes} bytes", results)
    scan.at = scan.start = start
    scan.end = end
    scan.reason = NULL
    scan.names_byte = False
    skip_blanks(&scan)
    if scan.at == end:
        return 0
    if end - scan.at >= 6 and memcmp(scan.at, b"[DONE]", 6) == 0 and self.framing == SSE:
        self.done = self.is_over = True
        return 0
    start = scan.at
    self.events += 1
    if start[0] != c"{":
        refuse_start(&scan)
    elif find_members(&scan, IN_EVENT, EVENT_WORDS, event) == 0:
        skip_blanks(&scan)
        if scan.at == end:
            if not is_error:
                return understand(self, start, end, event, results)
            if event[ERROR].kind == MISSING or event[ERROR].kind == NULL_VALUE:
                return give_failure(
                    "error", label_of(&event[MESSAGE], MAX_MESSAGE_CHARS), label_of(&event[CODE], MAX_KEY_CHARS), results
                )
            return give_error(&event[ERROR], results)
        fail(&scan, b"expected the end of the event")
    if is_error:
        text = start[: min(end - start, MAX_ERROR_BYTES)].decode("utf-8", "replace")
        return give_failure("error", text[:MAX_MESSAGE_CHARS], None, results)
    reason = scan.reason.decode("ascii")
    return self.malformed(f"an event is not JSON: {reason} (byte {scan.at - start})", results)


cdef int understand(
    Scanner self, const unsigned char* start, const unsigned char* end, Value* event, list results
) except -1:
    cdef Value[EVENT_WORDS] inner
    cdef bint is_known = False
    if self.watch == CHAT_ONLY and event[CHOICES].kind != ARRAY:
        return give_unknown(start, end, &event[TYPE], results)
    if self.watch and event[ERROR].kind != MISSING and event[ERROR].kind != NULL_VALUE:
        self.is_over = True  # packages differ in what they take for an error
    if event[ERROR].kind == OBJECT or (event[ERROR].kind == STRING and event[ERROR].end - event[ERROR].start > 2):
        return give_error(&event[ERROR], results)
    if equals(&event[EVENT_OBJECT], b"error"):  # Mistral, vLLM
        code = label_of(&event[CODE], MAX_KEY_CHARS) or label_of(&event[TYPE], MAX_KEY_CHARS)
        return give_failure("error", label_of(&event[MESSAGE], MAX_MESSAGE_CHARS), code, results)
    if event[TYPE].kind == STRING and understand_type(self, event, results):
        return 0
    if event[USAGE].kind == OBJECT:
        is_known = True
        read_usage(self, &event[USAGE])
    if event[X_GROQ].kind == OBJECT:
        is_known = True
        look_into(&event[X_GROQ], USAGE_ONLY, 1, inner)
        read_usage(self, &inner[0])
    if event[CHOICES].kind == ARRAY:
        is_known = True
        read_choices(self, &event[CHOICES], results)
    if event[USAGE_METADATA].kind == OBJECT:
        is_known = True
        read_metadata(self, &event[USAGE_METADATA])
    if event[CANDIDATES].kind == ARRAY:
        is_known = True
        read_candidate(self, &event[CANDIDATES], results)
    if event[PROMPT_FEEDBACK].kind == OBJECT:
        is_known = True
        look_into(&event[PROMPT_FEEDBACK], IN_FEEDBACK, 2, inner)
        if inner[0].kind == STRING:
            give_block(
                self, "blockReason", label_of(&inner[0], MAX_KEY_CHARS), label_of(&inner[1], MAX_MESSAGE_CHARS), results
            )
    if event[DONE].kind == BOOLEAN and (event[MESSAGE].kind == OBJECT or event[RESPONSE].kind == STRING):
        is_known = True
        read_ollama(self, event, results)
    return 0 if is_known else give_unknown(start, end, &event[TYPE], results)


cdef bint understand_type(Scanner self, Value* event, list results) except -1:
    """The APIs that name their events; false if none of them has this name."""
    cdef Value* type = &event[TYPE]
    cdef Value[7] delta
    cdef Value[3] inner
    cdef Value content
    cdef Py_ssize_t size = type.end - type.start - 2
    cdef bytes name
    if size > 6 * MAX_TYPE_BYTES:
        return False
    name = string_of(type).encode("utf-8", "surrogatepass") if type.escaped else type.start[1 : size + 1]
    if len(name) > MAX_TYPE_BYTES:
        return False
    if name == b"response.output_text.delta":
        if event[DELTA].kind == STRING:
            give_text(self, &event[DELTA], False, results)
        return True
    if name == b"content_block_delta":
        if look_into(&event[DELTA], IN_DELTA, 7, delta) and delta[1].kind == STRING and equals(&delta[0], b"text_delta"):
            give_text(self, &delta[1], False, results)
        return True
    if name == b"content-delta":
        look_into(&event[DELTA], IN_DELTA, 7, delta)
        look_into(&delta[3], IN_MESSAGE, 2, inner)
        content = inner[0]
        if look_into(&content, IN_PART, 3, inner) and inner[1].kind == STRING:
            give_text(self, &inner[1], False, results)
        return True
    if name.startswith(b"response."):
        read_response(self, name, event, results)
        return True
    if name == b"error":
        give_failure(
            "error", label_of(&event[MESSAGE], MAX_MESSAGE_CHARS), label_of(&event[CODE], MAX_KEY_CHARS), results
        )
        return True
    if name == b"message" and event[CONTENT].kind == ARRAY:  # Anthropic's answer, not streamed
        read_usage(self, &event[USAGE])
        give_content(self, &event[CONTENT], results)
        return True
    if name not in SILENT_TYPES:
        return False
    if name == b"message_start":
        look_into(&event[MESSAGE], USAGE_ONLY, 1, inner)
        read_usage(self, &inner[0])
    elif name == b"message_delta":
        read_usage(self, &event[USAGE])
        look_into(&event[DELTA], IN_DELTA, 7, delta)
        if equals(&delta[2], b"refusal"):
            give_block(self, "stop_reason", "refusal", None, results)
    elif name == b"message_stop":
        self.done = True
    elif name == b"message-end":
        self.done = True
        look_into(&event[DELTA], IN_DELTA, 7, delta)
        read_usage(self, &delta[6])
        if equals(&delta[4], b"ERROR") or equals(&delta[4], b"TIMEOUT"):
            give_failure("error", label_of(&delta[5], MAX_MESSAGE_CHARS), string_of(&delta[4]), results)
    return True


cdef int read_response(Scanner self, bytes name, Value* event, list results) except -1:
    """The other events of OpenAI's Responses: they repeat the text, or hold what is not spoken."""
    cdef Value[3] parts
    cdef Value[1] reason
    if name == b"response.refusal.delta":
        return give_text(self, &event[DELTA], True, results) if event[DELTA].kind == STRING else 0
    if name not in (b"response.completed", b"response.failed", b"response.incomplete"):
        return 0
    self.done = True
    look_into(&event[RESPONSE], IN_RESPONSE, 3, parts)
    read_usage(self, &parts[2])
    if name == b"response.failed":
        return give_error(&parts[0], results)
    if name == b"response.incomplete":
        look_into(&parts[1], REASON, 1, reason)
        message = label_of(&reason[0], MAX_KEY_CHARS)
        return give_failure("incomplete", message, message, results)
    return 0


cdef int read_choices(Scanner self, Value* choices, list results) except -1:
    """The first choice: with `n` above 1, the others are other answers."""
    cdef Scan scan
    cdef Value item
    cdef Value[5] choice
    cdef Value[2] message
    open_array(choices, &scan)
    while next_item(&scan, &item):
        if not look_into(&item, IN_CHOICE, 5, choice):
            if self.watch:
                self.is_over = True
            continue
        if self.watch and choice[0].kind != MISSING and not is_digits(&choice[0]):
            self.is_over = True
        if self.watch and choice[1].kind not in (MISSING, NULL_VALUE, OBJECT):
            self.is_over = True
        if choice[0].kind == NUMBER and not is_zero(&choice[0]):
            continue
        if look_into(&choice[1], IN_MESSAGE, 2, message) or look_into(&choice[3], IN_MESSAGE, 2, message):
            give_content(self, &message[0], results)
            if message[1].kind == STRING:
                give_text(self, &message[1], True, results)
        elif choice[4].kind == STRING:
            give_text(self, &choice[4], False, results)
        if self.watch and equals(&choice[2], b"error"):
            self.is_over = True
        if equals(&choice[2], b"content_filter"):
            give_block(self, "finish_reason", "content_filter", None, results)
        break
    return 0


cdef int read_candidate(Scanner self, Value* candidates, list results) except -1:
    cdef Scan scan
    cdef Value item
    cdef Value[3] candidate
    cdef Value[3] part
    cdef Value[1] parts
    open_array(candidates, &scan)
    if not next_item(&scan, &item) or not look_into(&item, IN_CANDIDATE, 3, candidate):
        return 0
    if look_into(&candidate[0], PARTS, 1, parts) and parts[0].kind == ARRAY:
        open_array(&parts[0], &scan)
        while next_item(&scan, &item):
            if look_into(&item, IN_PART, 3, part) and part[1].kind == STRING and not is_true(&part[2]):
                give_text(self, &part[1], False, results)
    if candidate[1].kind == STRING:
        reason = label_of(&candidate[1], MAX_KEY_CHARS)
        if reason in GEMINI_BLOCKS:
            give_block(self, "finishReason", reason, label_of(&candidate[2], MAX_MESSAGE_CHARS), results)
    return 0


cdef int read_ollama(Scanner self, Value* event, list results) except -1:
    cdef Value[2] message
    if event[MESSAGE].kind == OBJECT:
        look_into(&event[MESSAGE], IN_MESSAGE, 2, message)
        if message[0].kind == STRING:
            give_text(self, &message[0], False, results)
    elif event[RESPONSE].kind == STRING:
        give_text(self, &event[RESPONSE], False, results)
    if is_true(&event[DONE]):
        self.done = True
        keep_usage(self, count_of(&event[PROMPT_EVAL_COUNT]), count_of(&event[EVAL_COUNT]))
    return 0
