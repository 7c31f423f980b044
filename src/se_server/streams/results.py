"""Opens what packages wrap around a stream: results of agents, raw API responses, chat engines, workflows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from se_server.streams.closing import closer_of
from se_server.streams.forms import Blocking, Events, Form, Pending, identity, list_events, name_of

RAW_RESPONSES = ("LegacyAPIResponse", "AsyncAPIResponse", "APIResponse")
PARSED_BY = ("openai", "anthropic", "groq", "together")


def take_raw_response(opening: Any, response: Any) -> object:
    """Take what `with_raw_response` and `with_streaming_response` give: the stream, or the result, in it."""
    opening.closers.append(closer_of(response.http_response))
    parsed = response.parse()
    return Pending(parsed) if hasattr(parsed, "__await__") else parsed


def unwrap_blocking(response: Any) -> Any:
    """Return what is in a raw API response of a blocking client; None for all other objects."""
    package, name = identity(type(response))
    if package in PARSED_BY and name in RAW_RESPONSES:
        return response.parse()
    return None


def take_awaited_request(opening: Any, request: Any) -> Pending:
    """Take an aiohttp request: its response is awaited, and closed instead of released."""
    return Pending(request)


class _run_canceller:
    """Stops the run of openai-agents, whose task would go on when its events are no longer read."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __call__(self, error: BaseException | None) -> None:
        if not self._result.is_complete:
            self._result.cancel()


def take_agents_run(opening: Any, result: Any) -> Events:
    """Take the `RunResultStreaming` of openai-agents."""
    # The iterator's own closing waits for the whole run.
    opening.first_closers.append(_run_canceller(result))
    return Events(result.stream_events())


def form_of_generator(generator: Any) -> Form | None:
    """Return the form of a generator whose end waits for a run behind it, None for all other generators."""
    package, canceller = RUNS.get(generator.__qualname__, ("", None))
    if canceller is None or generator.ag_frame is None:
        return None
    result = generator.ag_frame.f_locals.get("self")
    if result is None or identity(type(result))[0] != package:
        return None

    def take(opening: Any, events: Any) -> Events:
        opening.first_closers.append(canceller(result))
        return Events(events)

    return take


def take_litellm_stream(opening: Any, stream: Any) -> object:
    """Take litellm's stream, which iterates both ways: that of `completion` blocks, in threads nothing can stop."""
    inner = getattr(stream, "completion_stream", None)
    if inner is not None and not hasattr(type(inner), "__aiter__"):
        return Blocking(stream)
    return Events(stream.__aiter__())


def take_pydantic_ai_result(opening: Any, result: Any) -> Events:
    """Take the `StreamedRunResult` of pydantic-ai; its `stream_text()` alone would repeat the text so far."""
    if hasattr(type(result), "stream_text"):
        return Events(result.stream_text(delta=True, debounce_by=None))
    return Events(result.stream_output())


def take_pydantic_ai_run(opening: Any, run: Any) -> Events:
    """Take the `AgentRun` that `agent.iter()` gives: the events of each request to the model."""

    async def events() -> AsyncIterator[Any]:
        async for node in run:
            if identity(type(node)) == ("pydantic_ai", "ModelRequestNode"):
                async with node.stream(run.ctx) as stream:
                    async for event in stream:
                        yield event

    return Events(events())


class _history_canceller:
    """Cancels the task of llama-index that reads the stream; its generator would wait for the whole answer."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __call__(self, error: BaseException | None) -> None:
        task = getattr(self._response, "awrite_response_to_history_task", None)
        if task is not None:
            task.cancel()


def take_chat_engine(opening: Any, response: Any) -> object:
    """Take the streaming response of a llama-index chat engine."""
    if getattr(response, "achat_stream", None) is None:
        return Blocking(response.response_gen)
    opening.first_closers.append(_history_canceller(response))
    return Events(response.async_response_gen())


def take_response_gen(opening: Any, response: Any) -> object:
    """Take the streaming response of a llama-index query engine."""
    return response.response_gen


def take_async_response_gen(opening: Any, response: Any) -> object:
    """Take the async streaming response of a llama-index query engine."""
    return response.async_response_gen()


def take_workflow(opening: Any, handler: Any) -> Events:
    """Take the handler of a llama-index workflow or agent: its events, and its run is cancelled at the end."""

    class canceller:
        target_name = name_of(handler)

        def __call__(self, error: BaseException | None) -> Any:
            return None if handler.is_done() else handler.cancel_run()

    async def events() -> AsyncIterator[Any]:
        async with contextlib.aclosing(handler.stream_events()) as stream:
            async for event in stream:
                yield event
        await handler  # its events end without a word where the run has failed

    opening.closers.append(canceller())
    return Events(events())


def take_chat_response(opening: Any, response: Any) -> Events:
    """Take the `ChatResponse` of llama-index: its whole text."""
    return list_events([response.message.content or ""])


RUNS: Mapping[str, tuple[str, Any]] = {
    "RunResultStreaming.stream_events": ("agents", _run_canceller),
    "StreamingAgentChatResponse.async_response_gen": ("llama_index", _history_canceller),
}
"""The package of a generator's run, and what stops it, by the generator's qualified name."""

FORMS: Mapping[tuple[str, str], Form] = {
    **{(package, name): take_raw_response for package in PARSED_BY for name in RAW_RESPONSES[:2]},
    ("aiohttp", "_BaseRequestContextManager"): take_awaited_request,
    ("agents", "RunResultStreaming"): take_agents_run,
    ("litellm", "CustomStreamWrapper"): take_litellm_stream,
    ("pydantic_ai", "StreamedRunResult"): take_pydantic_ai_result,
    ("pydantic_ai", "AgentRun"): take_pydantic_ai_run,
    ("llama_index", "StreamingAgentChatResponse"): take_chat_engine,
    ("llama_index", "StreamingResponse"): take_response_gen,
    ("llama_index", "AsyncStreamingResponse"): take_async_response_gen,
    ("llama_index", "ChatResponse"): take_chat_response,
    ("workflows", "WorkflowHandler"): take_workflow,
}
