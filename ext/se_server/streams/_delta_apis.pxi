# The events of APIs that name their form or have one of their own: OpenAI's, Anthropic's, Gemini's and what speaks them.

# --- OpenAI chat, and all that speak it -------------------------------------------------------------------------------


cdef object first_choice(object choices):
    """The choice 0; with `n` above 1, the others are other answers."""
    for choice in choices:
        index = get(choice, INDEX)
        if PyLong_Check(index) and not isinstance(index, bool) and index != 0:
            continue
        return choice
    return None


cdef str choices_text(Reading r, object choices):
    cdef str text = None
    r.is_known = True
    choice = first_choice(choices)
    if choice is None:
        return None
    message = get(choice, DELTA)
    if message is None:
        message = get(choice, MESSAGE)
    if message is not None:
        text = list_text(r, get(message, CONTENT), False)
        if not text:
            r.refuse(exact(get(message, REFUSAL)))
    else:
        text = exact(get(choice, TEXT))
    if not text:
        reason = get(choice, FINISH_REASON)
        if reason is None:
            return text
        if reason == "content_filter":
            r.block("finish_reason", reason, None)
        elif reason == "error":
            fail_by(r, get(choice, ERROR), "finish_reason: error")
    return text


cdef str choices_rest(Reading r, object event):
    """The error and the tokens that may come in place of a text."""
    if read_error(r, event):
        return None
    read_rest(r, event)
    read_usage(r, get(get(event, X_GROQ), USAGE), False)
    return None


cdef int read_rest(Reading r, object event) except -1:
    """The tokens and the error that may come with a text."""
    cdef object usage = get(event, USAGE)
    if usage is not None:
        read_usage(r, usage, False)
    return 0


cdef int fail_by(Reading r, object error, str otherwise) except -1:
    """The failure that an error object, or an error's text, describes."""
    cdef str message = exact(error)
    cdef str code = None
    if message is None and error is not None:
        message = exact(get(error, MESSAGE))
        for name in (CODE, STATUS, TYPE):
            if code is None:
                code = label(get(error, name))
    return r.fail("error", message or otherwise, code)


# --- the APIs that name their events ----------------------------------------------------------------------------------


cdef str typed_text(Reading r, object event, int form, str event_type, int depth):
    cdef object delta
    cdef str text
    if form == ANTHROPIC_DELTA:
        r.is_known = True
        delta = get(event, DELTA)
        return exact(get(delta, TEXT)) if get(delta, TYPE) == "text_delta" else None
    if form == HELPER_DELTA:
        r.is_known = True
        if r.has_chunks and not r.chunk_has_text:
            return None
        r.chunk_has_text = False
        return exact(get(event, DELTA))
    if form == HELPER_CHUNK:
        delta = get(event, CHUNK)
        if delta is None:
            return None
        r.is_known = r.has_chunks = True
        entries = get(delta, CHOICES)
        text = choices_text(r, entries) if is_list(entries) else None
        # Its refusal comes once more, as an event of its own.
        if text is None and r.refused is not None and first_choice(entries) is not None:
            if exact(get(get(first_choice(entries), DELTA), REFUSAL)):
                r.refused.pop()
        r.chunk_has_text = bool(text)
        read_rest(r, delta)
        return None
    if form == WRAPPED_DATA:
        r.is_known = True
        return read(r, get(event, DATA), depth + 1)
    if form == COHERE_DELTA:
        r.is_known = True
        return exact(get(get(get(get(event, DELTA), MESSAGE), CONTENT), TEXT))
    if form == LANGCHAIN_CHUNK or form == LANGCHAIN_WHOLE:
        if get(event, CONTENT) is None:
            return None
        return langchain_text(r, event, form)
    if form == MISTRAL_OUTPUT:
        r.is_known = True
        delta = get(event, CONTENT)
        text = list_text(r, delta, True)
        return text if text is not None or get(delta, TYPE) != "text" else exact(get(delta, TEXT))
    if form == RESPONSES_REFUSAL or form == HELPER_REFUSAL:
        r.is_known = True
        r.refuse(exact(get(event, DELTA)))
    elif form == RESPONSES_END:
        read_response(r, event_type, get(event, RESPONSE))
    elif form == ANTHROPIC_START:
        r.is_known = True
        read_usage(r, get(get(event, MESSAGE), USAGE), False)
    elif form == ANTHROPIC_MESSAGE_DELTA:
        r.is_known = True
        read_usage(r, get(event, USAGE), False)
        if get(get(event, DELTA), STOP_REASON) == "refusal":
            r.block("stop_reason", "refusal", None)
    elif form == ANTHROPIC_TEXT:
        if get(event, SNAPSHOT) is not None:
            r.is_known = True
            r.repeat(event)
    elif form == COHERE_END:
        r.is_known = True
        delta = get(event, DELTA)
        read_usage(r, get(delta, USAGE), False)
        if get(delta, FINISH_REASON) in ("ERROR", "TIMEOUT"):
            fail_by(r, get(delta, ERROR), f"finish_reason: {label(get(delta, FINISH_REASON))}")
    elif form == ERROR_EVENT:
        r.is_known = True
        delta = get(event, ERROR)
        fail_by(r, event if delta is None else delta, None)
    elif form == MISTRAL_DONE:
        r.is_known = True
        read_usage(r, get(event, USAGE), False)
    elif form == LANGGRAPH_MESSAGES:
        delta = get(event, DATA)
        if is_list(delta):
            return graph_text(r, delta, depth + 1)
    elif form == LANGGRAPH_OTHER:
        r.is_known = r.is_known or get(event, NS) is not None
    elif form == LANGCHAIN_OTHER:
        r.is_known = r.is_known or get(event, CONTENT) is not None
    else:
        r.is_known = True
        if form == REPEATED_EVENT:
            r.repeat(event)
    return None


cdef int read_response(Reading r, str event_type, object response) except -1:
    """The ends of OpenAI's Responses. An agent's run has several."""
    r.is_known = True
    read_usage(r, get(response, USAGE), True)
    if event_type == "response.failed":
        return fail_by(r, get(response, ERROR), None)
    if event_type == "response.incomplete":
        return fail_early(r, get(response, INCOMPLETE_DETAILS))
    return 0


cdef int fail_early(Reading r, object details) except -1:
    """The end of OpenAI's Responses before the answer is complete."""
    cdef str reason = label(get(details, REASON))
    return r.fail("incomplete", reason, reason)


# --- Gemini -----------------------------------------------------------------------------------------------------------


cdef str candidates_text(Reading r, object candidates):
    cdef str text
    cdef str joined = None
    if len(candidates) == 0:
        return None
    r.is_known = True
    candidate = candidates[0]
    parts = get(get(candidate, CONTENT), PARTS)
    if is_list(parts):
        for part in parts:
            if get(part, THOUGHT) is True:
                continue
            text = exact(get(part, TEXT))
            if text is not None:
                joined = text if joined is None else joined + text
    if not joined:
        reason = get(candidate, FINISH_REASON)
        if reason is None and PyDict_Check(candidate):
            reason = candidate.get("finishReason")
        if reason is not None and label(reason) in GEMINI_BLOCKS:
            message = any_of(candidate, ("finish_message", "finishMessage"))
            r.block("finish_reason", reason, exact(message))
    return joined
