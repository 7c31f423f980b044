"""Anthropic's package."""

from __future__ import annotations

from typing import Any

from tests.llm.rows import MESSAGES, MODEL, Case, Package
from tests.llm.rows_openai import CLOSE, EXIT, THREAD

anthropic = Package("anthropic", "anthropic", "anthropic")

UNDERNEATH = "`aclose()`, and closing the HTTP response under it, which `aclose()` does not reach"
MESSAGE: Any = {"model": MODEL, "max_tokens": 1024, "messages": MESSAGES}


async def anthropic_client(case: Case) -> Any:
    """Return an asynchronous client."""
    from anthropic import AsyncAnthropic

    return await case.client(AsyncAnthropic(api_key="none", base_url=case.url("anthropic"), max_retries=0))


def anthropic_blocking(case: Case) -> Any:
    """Return a client that blocks."""
    from anthropic import Anthropic

    return case.blocking_client(Anthropic(api_key="none", base_url=case.url("anthropic"), max_retries=0))


@anthropic.row("await client.messages.create(..., stream=True)", closed_by=CLOSE)
async def create(case: Case) -> Any:
    return await (await anthropic_client(case)).messages.create(**MESSAGE, stream=True)


@anthropic.row("client.messages.create(..., stream=True)", closed_by=CLOSE, note="The inner `await` is made.")
async def create_not_awaited(case: Case) -> Any:
    return (await anthropic_client(case)).messages.create(**MESSAGE, stream=True)


@anthropic.row("client.messages.stream(...)", closed_by=EXIT)
async def manager(case: Case) -> Any:
    return (await anthropic_client(case)).messages.stream(**MESSAGE)


@anthropic.row("async with client.messages.stream(...) as stream: stream", closed_by=CLOSE)
async def manager_entered(case: Case) -> Any:
    return await case.enter((await anthropic_client(case)).messages.stream(**MESSAGE))


@anthropic.row("async with client.messages.stream(...) as stream: stream.text_stream", closed_by=UNDERNEATH)
async def text_stream(case: Case) -> Any:
    return (await case.enter((await anthropic_client(case)).messages.stream(**MESSAGE))).text_stream


@anthropic.row("(await client.messages.stream(...).__aenter__()).text_stream", closed_by=UNDERNEATH,
               note="The manager is never left.")  # fmt: skip
async def text_stream_never_left(case: Case) -> Any:
    return (await (await anthropic_client(case)).messages.stream(**MESSAGE).__aenter__()).text_stream


@anthropic.row("client.beta.messages.stream(...)", closed_by=EXIT)
async def beta_manager(case: Case) -> Any:
    return (await anthropic_client(case)).beta.messages.stream(**MESSAGE)


@anthropic.row("await client.messages.create(...)", is_stream=False, note="The whole answer at once.")
async def whole(case: Case) -> Any:
    return await (await anthropic_client(case)).messages.create(**MESSAGE)


@anthropic.row(
    "client.messages.create(...)", closed_by="cancelling the request", is_stream=False, note="The `await` is made."
)
async def whole_not_awaited(case: Case) -> Any:
    return (await anthropic_client(case)).messages.create(**MESSAGE)


@anthropic.row("stream.get_final_text()", closed_by="cancelling it", is_stream=False, note="The whole answer at once.")
async def final_text(case: Case) -> Any:
    return (await case.enter((await anthropic_client(case)).messages.stream(**MESSAGE))).get_final_text()


@anthropic.row("await client.messages.with_raw_response.create(..., stream=True)", closed_by=CLOSE)
async def raw(case: Case) -> Any:
    return await (await anthropic_client(case)).messages.with_raw_response.create(**MESSAGE, stream=True)


@anthropic.row("client.messages.with_streaming_response.create(..., stream=True)", closed_by=EXIT)
async def streaming_response(case: Case) -> Any:
    return (await anthropic_client(case)).messages.with_streaming_response.create(**MESSAGE, stream=True)


@anthropic.row("Anthropic().messages.create(..., stream=True)", closed_by=THREAD, note="Read in a thread of its own.")
async def blocking(case: Case) -> Any:
    return anthropic_blocking(case).messages.create(**MESSAGE, stream=True)


@anthropic.row("Anthropic().messages.stream(...)", closed_by=THREAD, note="Read in a thread of its own.")
async def blocking_manager(case: Case) -> Any:
    return anthropic_blocking(case).messages.stream(**MESSAGE)


@anthropic.row("Anthropic().messages.stream(...).__enter__().text_stream", closed_by=THREAD,
               note="Read in a thread of its own.")  # fmt: skip
async def blocking_text_stream(case: Case) -> Any:
    return anthropic_blocking(case).messages.stream(**MESSAGE).__enter__().text_stream


@anthropic.refused("AsyncAnthropic()", "messages.create", api="")
async def anthropic_itself(case: Case) -> Any:
    return await anthropic_client(case)


@anthropic.refused("client.messages.stream", "call it", api="")
async def stream_not_called(case: Case) -> Any:
    return (await anthropic_client(case)).messages.stream
