"""Reads results that were not streamed: one whole answer, as an object of a package or as the dict of its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from se_server.streams._scan import Failure, Refusal
from se_server.streams.forms import identity

# Objects whose one attribute is the answer; their other attributes look like other APIs' results.
ATTRIBUTES = {
    ("pydantic_ai", "AgentRunResult"): "output",
    ("agents", "RunResult"): "final_output",
    ("llama_index", "AgentChatResponse"): "response",
    ("llama_index", "CompletionResponse"): "text",
    ("llama_index", "Response"): "response",
    ("llama_index", "PydanticResponse"): "response",
}


def get(value: Any, name: str) -> Any:
    """Return a member of a dict or an attribute of an object, None if it is not there."""
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None)


def finished_events(value: Any) -> list[str | Refusal | Failure] | None:
    """Return the texts, the refusal and the failure of a whole answer, in order; None if `value` is none of those.

    Knows OpenAI's Chat Completions and Responses, Anthropic, Gemini, Cohere, Ollama, Bedrock's Converse, LangChain's
    messages, LangGraph's states, and the results of pydantic-ai, openai-agents and llama-index.
    """
    for base in type(value).__mro__:
        attribute = ATTRIBUTES.get(identity(base))
        if attribute is not None:
            return [str(getattr(value, attribute))]
    if isinstance(value, (str, bytes, list, tuple, type)) or callable(value):
        return None
    if isinstance(get(value, "choices"), list):
        return _chat(value)
    if isinstance(get(value, "output"), list) and get(value, "object") == "response":
        return _responses(value)
    if _has_candidates(value):
        return _gemini(value)
    error = get(value, "error")
    if error and isinstance(value, dict):
        return [_failure(error)]
    output = get(value, "output")
    message = get(value, "message") or (get(output, "message") if output is not None else None)
    if message is not None and not isinstance(message, str):
        texts = _parts(_content_of(message))
        return None if texts is None else list(texts)
    messages = value.get("messages") if isinstance(value, dict) else None
    if isinstance(messages, list) and messages:  # the state that a LangGraph graph ends with
        return finished_events(messages[-1])
    if get(value, "role") == "assistant" or get(value, "type") in ("ai", "message", "assistant", "AIMessageChunk"):
        texts = _parts(get(value, "content"))
        return None if texts is None else [*texts, *_stopped(value)]
    if isinstance(get(value, "response"), str) and get(value, "done") is not None:  # Ollama's generate
        return [get(value, "response")]
    return None


def _chat(value: Any) -> list[str | Refusal | Failure] | None:
    events: list[str | Refusal | Failure] = []
    for choice in get(value, "choices")[:1]:
        message = get(choice, "message")
        if message is None and not isinstance(get(choice, "text"), str):
            return None  # a chunk of a stream
        content = get(choice, "text") if message is None else get(message, "content")
        events += _parts(content) or ()
        refusal = get(message, "refusal")
        if refusal and isinstance(refusal, str):
            events.append(Refusal(refusal))
        if get(choice, "finish_reason") == "content_filter" and not any(events):
            events.append(Failure("blocked", "the provider's content filter held the answer back", "content_filter"))
    return events


def _responses(value: Any) -> list[str | Refusal | Failure]:
    events: list[str | Refusal | Failure] = []
    for item in get(value, "output"):
        if get(item, "type") == "message":
            for part in get(item, "content") or ():
                if get(part, "type") == "refusal":
                    events.append(Refusal(get(part, "refusal") or ""))
                elif get(part, "type") == "output_text":
                    events.append(get(part, "text") or "")
    status = get(value, "status")
    if status == "failed":
        events.append(_failure(get(value, "error")))
    elif status == "incomplete":
        reason = get(get(value, "incomplete_details"), "reason") or "unknown reason"
        events.append(Failure("incomplete", f"the provider ended the answer early: {reason}", reason))
    return events


def _has_candidates(value: Any) -> bool:
    # The Python SDK writes the names with underscores, the wire in camelCase.
    if isinstance(get(value, "candidates"), list):
        return True
    return (get(value, "prompt_feedback") or get(value, "promptFeedback")) is not None


def _gemini(value: Any) -> list[str | Refusal | Failure]:
    for candidate in get(value, "candidates") or ():
        parts = get(get(candidate, "content"), "parts") or ()
        texts: list[str | Refusal | Failure] = [get(part, "text") for part in parts if not get(part, "thought")]
        texts = [text for text in texts if text]
        reason = get(candidate, "finish_reason") or get(candidate, "finishReason")
        reason = getattr(reason, "value", reason)
        if not texts and reason not in (None, "STOP", "MAX_TOKENS"):
            texts.append(Failure("blocked", f"the provider gave no text: {reason}", str(reason)))
        return texts
    feedback = get(value, "prompt_feedback") or get(value, "promptFeedback")
    reason = get(feedback, "block_reason") or get(feedback, "blockReason")
    reason = str(getattr(reason, "value", reason) or "no candidate")
    return [Failure("blocked", f"the provider blocked the prompt: {reason}", reason)]


def _content_of(message: Any) -> Any:
    content = get(message, "content")
    return get(message, "blocks") if content is None else content


def _parts(content: Any) -> list[str | Refusal | Failure] | None:
    """Return the texts of a content: a string, or a list of parts."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return None
    return list(_texts_in(content))


def _texts_in(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif get(part, "type") in ("text", "output_text", None) or get(part, "block_type") == "text":
            text = get(part, "text")
            if isinstance(text, str):
                yield text


def _stopped(value: Any) -> list[Failure]:
    if get(value, "stop_reason") == "refusal":
        return [Failure("blocked", "the provider refused to answer", "refusal")]
    return []


def _failure(error: Any) -> Failure:
    message = error if isinstance(error, str) else get(error, "message")
    code = get(error, "code") or get(error, "type")
    return Failure("error", str(message or "the provider reported a failure"), None if code is None else str(code))
