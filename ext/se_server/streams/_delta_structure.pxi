# Events that show by their structure what they are: Bedrock's, Ollama's, errors, and dicts of any kind.

# --- those that show by their structure what they are -----------------------------------------------------------------


cdef str other_text(Reading r, object event, int depth):
    cdef object part
    cdef str name
    cdef int form
    name = exact(get(event, EVENT_KIND))
    if name is not None:
        form = form_in(EVENT_KINDS, name)
        if form == PYDANTIC_AI_START:
            r.is_known = True
            part = get(event, PART)
            return exact(get(part, CONTENT)) if get(part, PART_KIND) == "text" else None
        if form == PYDANTIC_AI_DELTA:
            r.is_known = True
            part = get(event, DELTA)
            return exact(get(part, CONTENT_DELTA)) if get(part, PART_DELTA_KIND) == "text" else None
        if form:
            r.is_known = True
            return None
    name = exact(get(event, EVENT_TYPE))
    if name is not None:
        form = form_in(EVENT_TYPES, name)
        if form:
            r.is_known = True
            if form == COHERE_V1_TEXT:
                return exact(get(event, TEXT))
            if form == INTERACTION_DELTA:
                part = get(event, DELTA)
                return exact(get(part, TEXT)) if get(part, TYPE) == "text" else None
            if form == INTERACTION_END:
                read_usage(r, any_of(any_of(event, ("interaction",)), ("usage",)), False)
            elif form == ERROR_EVENT:
                fail_by(r, get(event, ERROR), None)
            return None
    part = get(event, DATA)
    if part is not None:
        return data_text(r, event, part, depth)
    part = get(event, DONE)
    if part is True or part is False:
        return ollama_text(r, event, part is True)
    if read_error(r, event):
        return None
    if get(event, OBJECT) == "error":  # Mistral, vLLM
        r.is_known = True
        fail_by(r, event, None)
        return None
    if PyDict_Check(event):
        return dict_text(r, event)
    part = get(event, USAGE_METADATA)
    if part is not None:
        r.is_known = True
        read_usage(r, part, False)
    part = get(event, PROMPT_FEEDBACK)
    if part is not None:
        r.is_known = True
        read_feedback(r, part)
    part = get(event, USAGE)
    if part is not None:
        r.is_known = True
        read_usage(r, part, False)
    return None


cdef bint read_error(Reading r, object event) except -1:
    """Read the error that an event of any API may have; return whether there was one."""
    cdef object part = get(event, ERROR)
    if part is None or part is False:
        return False
    if (PyUnicode_Check(part) or PyDict_Check(part) or get(part, MESSAGE)) and part:
        r.is_known = True
        fail_by(r, part, None)
        return True
    return False


cdef str dict_text(Reading r, object event):
    """The dicts of Bedrock's Converse, and members in the names of the wire."""
    cdef str name
    for key in event:
        name = exact(key)
        if name in BEDROCK_EVENTS:
            return bedrock_text(r, event, name)
        if name == "chunk":
            payload = any_of(event[key], ("bytes",)) if PyDict_Check(event[key]) else None
            if PyBytes_Check(payload):
                return r.scan(payload)
        elif name is not None and name.endswith("Exception") and len(event) == 1:
            r.is_known = True
            fail_by(r, event[key], name)
            r.failure = Failure(r.failure.kind, r.failure.message, name)
            return None
    for key in ("usageMetadata", "usage_metadata", "usage", "x_groq"):
        part = event.get(key)
        if PyDict_Check(part):
            r.is_known = True
            read_usage(r, part.get("usage") if key == "x_groq" else part, False)
    part = any_of(event, ("promptFeedback", "prompt_feedback"))
    if PyDict_Check(part):
        r.is_known = True
        read_feedback(r, part)
    return None


cdef int read_feedback(Reading r, object feedback) except -1:
    reason = any_of(feedback, ("block_reason", "blockReason"))
    if reason is not None:
        message = exact(any_of(feedback, ("block_reason_message", "blockReasonMessage")))
        return r.block("block_reason", reason, message)
    return 0


cdef str bedrock_text(Reading r, object event, str name):
    cdef object part = event[name]
    r.is_known = True
    if name == "contentBlockDelta":
        return exact(get(get(part, DELTA), TEXT))
    if name == "metadata" and PyDict_Check(part):
        read_usage(r, part.get("usage"), False)
    elif name == "messageStop" and PyDict_Check(part):
        reason = part.get("stopReason")
        if reason == "content_filtered" or reason == "guardrail_intervened":
            r.block("stopReason", reason, None)
    return None


cdef str ollama_text(Reading r, object event, bint is_done):
    cdef object message = get(event, MESSAGE)
    cdef str text
    if message is not None and not PyUnicode_Check(message):
        text = exact(get(message, CONTENT))
        r.is_known = True
    else:
        text = exact(get(event, RESPONSE))
        if text is None:
            return None
        r.is_known = True
    if is_done:
        r.count_usage(count(any_of(event, ("prompt_eval_count",))), count(any_of(event, ("eval_count",))), False)
    return text


cdef str data_text(Reading r, object event, object data, int depth):
    """Events in events: Mistral's, LangChain's `astream_events`, server-sent events as objects."""
    cdef str name = exact(get(event, EVENT))
    cdef str text
    if name is not None and name.startswith("on_") and PyDict_Check(data):
        r.is_known = True
        if name != "on_chat_model_stream" and name != "on_llm_stream":
            return None
        if r.nodes is not None and not in_nodes(r, event.get("metadata") if PyDict_Check(event) else None):
            return None
        data = get(data, CHUNK)
        text = exact(data)
        return text if text is not None else read(r, data, depth + 1)
    text = exact(data)
    if text is not None:
        if text.startswith(("{", "[DONE]")):
            if r.scanner is None:
                r.scanner = Scanner("sse")
            return r.scan(f"event: {name or 'message'}\ndata: {text.strip()}\n\n")
        return None
    return read(r, data, depth + 1)
