# The events of packages around LLMs, and the tokens that any event tells.

# --- LangChain, LangGraph, llama-index, the scanner -------------------------------------------------------------------


cdef str packages_text(Reading r, object event, int form):
    cdef str kind
    r.is_known = True
    if form == PASSED_ON:
        return passed_on(r, event)
    if form == LANGCHAIN_MESSAGE:
        kind = exact(get(event, TYPE))
        form = 0 if kind is None else form_in(TYPES, kind)
        return langchain_text(r, event, form) if form == LANGCHAIN_CHUNK or form == LANGCHAIN_WHOLE else None
    if form == LANGCHAIN_GENERATION:
        message = get(event, MESSAGE)
        return exact(get(event, TEXT)) if message is None else packages_text(r, message, LANGCHAIN_MESSAGE)
    if form == LLAMA_INDEX_DELTA:
        return exact(get(event, DELTA))
    return None


cdef str passed_on(Reading r, object result):
    """Take what the scanner has found."""
    r.is_known = True
    if isinstance(result, Refusal):
        r.refuse((<Refusal>result).text)
    elif isinstance(result, Failure):
        if (<Failure>result).kind != "blocked" or not (r.has_text or r.refused is not None):
            if r.failure is None:
                r.failure = result
    elif isinstance(result, Usage):
        r.count_usage((<Usage>result).input_tokens, (<Usage>result).output_tokens, False)
    else:
        r.note_unknown({}, result)
    return None


cdef str langchain_text(Reading r, object message, int form):
    cdef str text = list_text(r, get(message, CONTENT), True)
    cdef str key = exact(get(message, ID))
    r.is_known = True
    if form == LANGCHAIN_WHOLE:
        # A graph repeats the messages whose chunks it has streamed.
        if key is not None and r.spoken_ids is not None and key in r.spoken_ids:
            return None
    elif text and key is not None and key != r.last_id:
        r.last_id = key
        if r.spoken_ids is None:
            r.spoken_ids = set()
        if len(r.spoken_ids) < MAX_SPOKEN_IDS:
            r.spoken_ids.add(key)
    usage = get(message, USAGE_METADATA)
    if usage is not None:
        read_usage(r, usage, True)
    part = get(message, RESPONSE_METADATA)
    if PyDict_Check(part) and part and part.get("status") == "incomplete":  # OpenAI's Responses
        fail_early(r, part.get("incomplete_details"))
    if not text:
        refusal = get(message, ADDITIONAL_KWARGS)
        if PyDict_Check(refusal) and refusal:
            r.refuse(exact(refusal.get("refusal")))
        if PyDict_Check(part) and part:
            reason = part.get("finish_reason")
            if reason == "content_filter" or (PyUnicode_Check(reason) and reason in GEMINI_BLOCKS):
                r.block("finish_reason", reason, None)
            elif part.get("stop_reason") == "refusal":
                r.block("stop_reason", "refusal", None)
            else:
                feedback = part.get("prompt_feedback")
                reason = feedback.get("block_reason") if PyDict_Check(feedback) else None
                if reason:  # Gemini's; 0 where nothing is blocked
                    r.block("block_reason", reason, None)
    return text


cdef bint in_nodes(Reading r, object metadata) except -1:
    if r.nodes is None:
        return True
    name = metadata.get("langgraph_node") if PyDict_Check(metadata) else None
    if name in r.nodes:
        r.has_node = True
        return True
    if PyUnicode_Check(name) and not r.has_node:
        if r.other_nodes is None:
            r.other_nodes = set()
        if len(r.other_nodes) < MAX_OTHER_NODES:
            r.other_nodes.add(exact(name)[:MAX_KEY_CHARS])
    return False


cdef str graph_text(Reading r, object event, int depth):
    """LangGraph's `(message, metadata)`, alone or behind a stream mode, a namespace or both."""
    cdef Py_ssize_t size = len(event)
    cdef str mode
    if size == 3 and is_list(event[0]):
        return graph_text(r, event[1:], depth + 1) if depth < MAX_WRAPPERS else None
    if size != 2:
        return None
    mode = exact(event[0])
    if mode is not None:
        if mode not in GRAPH_MODES:
            return None
        if mode == "messages" and is_list(event[1]) and depth < MAX_WRAPPERS:
            return graph_text(r, event[1], depth + 1)
        r.is_known = mode != "messages"
        return None
    if is_list(event[0]):
        return graph_text(r, event[1], depth + 1) if is_list(event[1]) and depth < MAX_WRAPPERS else None
    if not PyDict_Check(event[1]):
        return None
    if not is_langchain(event[0]):
        return None
    if not in_nodes(r, event[1]):
        r.is_known = True
        return None
    return read(r, event[0], depth + 1)


cdef bint is_langchain(object message) except -1:
    if PyDict_Check(message):
        kind = exact(get(message, TYPE))
        return kind is not None and form_in(TYPES, kind) in (LANGCHAIN_CHUNK, LANGCHAIN_WHOLE, LANGCHAIN_OTHER)
    return kind_of(message).package_form == LANGCHAIN_MESSAGE


# --- tokens -----------------------------------------------------------------------------------------------------------


cdef int read_usage(Reading r, object usage, bint adds) except -1:
    """The tokens in a usage of any API. Anthropic counts cached ones apart, Gemini those of thoughts."""
    if usage is None:
        return 0
    tokens = any_of(usage, ("tokens",))  # Cohere's
    if tokens is not None:
        usage = tokens
    cdef object input_tokens = count(any_of(usage, ("prompt_tokens", "prompt_token_count", "promptTokenCount")))
    cdef object output_tokens = count(any_of(usage, ("completion_tokens",)))
    if input_tokens is None:
        input_tokens = count_like(any_of(usage, ("input_tokens", "inputTokens", "total_input_tokens")))
        if not adds or any_of(usage, ("input_token_details",)) is None:
            for name in ("cache_creation_input_tokens", "cache_read_input_tokens"):
                input_tokens = sum_of(input_tokens, count(any_of(usage, (name,))))
    if output_tokens is None:
        output_tokens = count_like(any_of(usage, ("output_tokens", "outputTokens", "total_output_tokens")))
    if output_tokens is None:
        output_tokens = sum_of(
            count(any_of(usage, ("candidates_token_count", "candidatesTokenCount"))),
            count(any_of(usage, ("thoughts_token_count", "thoughtsTokenCount"))),
        )
    return r.count_usage(input_tokens, output_tokens, adds)


cdef object count_like(object number):
    """A number of tokens, also where JSON made a float of it, as Cohere's."""
    if PyFloat_Check(number) and number >= 0 and number == int(number):
        return int(number)
    return count(number)
