# The forms of events of all packages, and the way from an event to the function that reads it. The rules for JSON are in `_scan_events.pxi`, too.

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
