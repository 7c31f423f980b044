# The events of all packages: their texts, and what else they say. The rules for JSON are in `_scan_events.pxi`, too.

# Forms of packages whose events do not show by their structure where the text is.
cdef enum:
    PASSED_ON = 1        # results of the scanner
    LANGCHAIN_MESSAGE
    LANGCHAIN_GENERATION
    LLAMA_INDEX_DELTA
    LLAMA_INDEX_OTHER

cdef dict PACKAGE_FORMS = {
    ("se_server", "Refusal"): PASSED_ON,
    ("se_server", "Failure"): PASSED_ON,
    ("se_server", "Unknown"): PASSED_ON,
    ("se_server", "Usage"): PASSED_ON,
    ("langchain_core", "BaseMessage"): LANGCHAIN_MESSAGE,
    ("langchain_core", "Generation"): LANGCHAIN_GENERATION,
    ("llama_index", "ChatResponse"): LLAMA_INDEX_DELTA,
    ("llama_index", "CompletionResponse"): LLAMA_INDEX_DELTA,
    ("llama_index", "AgentStream"): LLAMA_INDEX_DELTA,
}
for _name in (
    "AgentInput", "AgentOutput", "AgentSetup", "AgentStreamStructuredOutput", "AgentWorkflowStartEvent", "ToolCall",
    "ToolCallResult",
):
    PACKAGE_FORMS["llama_index", _name] = LLAMA_INDEX_OTHER
for _name in ("StartEvent", "StopEvent", "InputRequiredEvent", "HumanResponseEvent", "InternalDispatchEvent"):
    PACKAGE_FORMS["workflows", _name] = LLAMA_INDEX_OTHER

# The events that packages name by `type`, `event_type` or `event_kind`.
cdef enum:
    SILENT_EVENT = 1
    REPEATED_EVENT
    RESPONSES_REFUSAL
    RESPONSES_END
    ANTHROPIC_DELTA
    ANTHROPIC_START
    ANTHROPIC_MESSAGE_DELTA
    ANTHROPIC_TEXT
    COHERE_DELTA
    COHERE_END
    COHERE_V1_TEXT
    ERROR_EVENT
    HELPER_CHUNK
    HELPER_DELTA
    HELPER_REFUSAL
    MISTRAL_OUTPUT
    MISTRAL_DONE
    WRAPPED_DATA
    LANGCHAIN_CHUNK
    LANGCHAIN_WHOLE
    LANGCHAIN_OTHER
    LANGGRAPH_MESSAGES
    LANGGRAPH_OTHER
    PYDANTIC_AI_START
    PYDANTIC_AI_DELTA
    INTERACTION_DELTA
    INTERACTION_END

cdef dict TYPES = {
    "response.refusal.delta": RESPONSES_REFUSAL,
    "response.completed": RESPONSES_END,
    "response.failed": RESPONSES_END,
    "response.incomplete": RESPONSES_END,
    "response.output_text.done": REPEATED_EVENT,
    "content_block_delta": ANTHROPIC_DELTA,
    "message_start": ANTHROPIC_START,
    "message_delta": ANTHROPIC_MESSAGE_DELTA,
    "text": ANTHROPIC_TEXT,
    "content-delta": COHERE_DELTA,
    "message-end": COHERE_END,
    "error": ERROR_EVENT,
    "conversation.response.error": ERROR_EVENT,
    "chunk": HELPER_CHUNK,
    "content.delta": HELPER_DELTA,
    "content.done": REPEATED_EVENT,
    "refusal.delta": HELPER_REFUSAL,
    "message.output.delta": MISTRAL_OUTPUT,
    "conversation.response.done": MISTRAL_DONE,
    "raw_response_event": WRAPPED_DATA,
    "AIMessageChunk": LANGCHAIN_CHUNK,
    "ai": LANGCHAIN_WHOLE,
    "messages": LANGGRAPH_MESSAGES,
}
for _name in (
    # Anthropic and its helper
    "ping", "keepalive", "message_stop", "content_block_start", "content_block_stop", "citation", "thinking",
    "signature", "input_json", "compaction", "container",
    # Cohere
    "message-start", "content-start", "content-end", "tool-plan-delta", "tool-call-start", "tool-call-delta",
    "tool-call-end", "citation-start", "citation-end", "debug",
    # OpenAI's chat helper
    "refusal.done", "logprobs.content.delta", "logprobs.content.done", "logprobs.refusal.delta",
    "logprobs.refusal.done", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done",
    # openai-agents
    "run_item_stream_event", "agent_updated_stream_event",
    # Mistral's conversations
    "conversation.response.started", "tool.execution.started", "tool.execution.delta", "tool.execution.done",
    "agent.handoff.started", "agent.handoff.done", "function.call.delta",
):
    TYPES[_name] = SILENT_EVENT
for _name in (
    "human", "tool", "system", "function", "remove", "HumanMessageChunk", "ToolMessageChunk", "SystemMessageChunk",
):
    TYPES[_name] = LANGCHAIN_OTHER
for _name in ("updates", "values", "custom", "tasks", "checkpoints"):
    TYPES[_name] = LANGGRAPH_OTHER

# Of `event_kind` (pydantic-ai) and `event_type` (Cohere's first API, Gemini's interactions).
cdef dict EVENT_KINDS = {"part_start": PYDANTIC_AI_START, "part_delta": PYDANTIC_AI_DELTA}
for _name in (
    "part_end", "final_result", "agent_run_result", "function_tool_call", "function_tool_result", "output_tool_call",
    "output_tool_result", "builtin_tool_call", "builtin_tool_result", "deferred_tool_requests", "deferred_tool_results",
    "capability", "capability_load_delta", "custom", "enqueued_messages", "model_settings_delta",
    "tool_availability_delta",
):
    EVENT_KINDS[_name] = SILENT_EVENT
cdef dict EVENT_TYPES = {
    "text-generation": COHERE_V1_TEXT,
    "step.delta": INTERACTION_DELTA,
    "content.delta": INTERACTION_DELTA,
    "interaction.completed": INTERACTION_END,
    "interaction.complete": INTERACTION_END,
    "error": ERROR_EVENT,
}
for _name in (
    "stream-start", "stream-end", "search-queries-generation", "search-results", "citation-generation",
    "tool-calls-chunk", "tool-calls-generation", "debug",
    "interaction.start", "interaction.created", "interaction.status_update", "step.start", "step.stop", "content.start",
    "content.stop",
):
    EVENT_TYPES[_name] = SILENT_EVENT

# Why Gemini ends an answer that it does not give.
cdef frozenset GEMINI_BLOCKS = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY", "OTHER",
})  # fmt: skip
cdef frozenset BEDROCK_EVENTS = frozenset({
    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
})  # fmt: skip
cdef frozenset GRAPH_MODES = frozenset({
    "messages", "updates", "values", "custom", "debug", "tasks", "checkpoints",
})  # fmt: skip


cdef str read(Reading r, object event, int depth):
    """The text of an event, None for none; `r.is_known` says whether it belongs to an API."""
    cdef str text
    cdef str event_type
    cdef object entries
    cdef _Kind kind
    cdef int form = 0
    cdef bint has_choices = False
    if event is None:
        # A generator of texts gives None for an event without text: `(chunk.text async for chunk in stream)`.
        r.is_known = r.is_known or depth == 0
        return None
    if PyLong_Check(event) or PyFloat_Check(event) or depth > MAX_WRAPPERS:
        return None
    if PyUnicode_Check(event):
        return None
    if PyBytes_Check(event) or PyByteArray_Check(event) or isinstance(event, memoryview):
        return r.scan(event)
    if PyList_Check(event) or PyTuple_Check(event):
        return graph_text(r, event, depth)
    if not PyDict_CheckExact(event):
        if isinstance(event, type):
            return None
        kind = kind_of(event)
        if kind.extractor is not None:
            r.is_known = True
            return asked(kind.extractor, event)
        if kind.package_form:
            return packages_text(r, event, kind.package_form)
    entries = get(event, TYPE)
    event_type = exact(entries)
    if event_type is not None:
        if event_type == "response.output_text.delta":
            r.is_known = True
            text = exact(get(event, DELTA))
            if text is not None:
                return text
        else:
            form = form_in(TYPES, event_type)
            if form == SILENT_EVENT or (form == 0 and event_type.startswith("response.")):
                r.is_known = True
                return None
    entries = get(event, CHOICES)
    if is_list(entries):
        text = choices_text(r, entries)
        if text is not None:
            read_rest(r, event)
            return text
        has_choices = True
    if event_type is not None:
        if form:
            text = typed_text(r, event, form, event_type, depth)
            if text is not None:
                return text
    entries = get(event, CANDIDATES)
    if is_list(entries):
        text = candidates_text(r, entries)
        if text is not None:
            read_usage(r, any_of(event, ("usage_metadata", "usageMetadata")), False)
            return text
    if event_type is not None:
        if r.is_known:
            return None
    elif has_choices:
        return choices_rest(r, event)
    return other_text(r, event, depth)


cdef inline int form_in(dict forms, str name) except -1:
    cdef PyObject *form = PyDict_GetItemWithError(forms, name)
    return 0 if form == NULL else <object>form


cdef str list_text(Reading r, object content, bint takes_strings):
    """A string, or a list of parts of which those of type "text" are spoken, and strings where they may be in it."""
    cdef str text = exact(content)
    cdef str joined = None
    cdef object kind
    if text is not None:
        return text
    if not is_list(content):
        return None
    for part in content:
        text = exact(part) if takes_strings else None
        if text is None and part is not None and not PyLong_Check(part) and not PyUnicode_Check(part):
            kind = get(part, TYPE)
            if kind == "text" or kind == "output_text":
                text = exact(get(part, TEXT))
            elif kind == "refusal":
                r.refuse(exact(get(part, REFUSAL)))
        if text is not None:
            joined = text if joined is None else joined + text
    return joined


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
