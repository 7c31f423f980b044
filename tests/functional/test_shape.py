"""`send_response(..., shape=...)` and the option `shape`: what the API gets of an answer with marks in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.conversation.findings import forget_doubts
from se_server.testing import call

PIECES = ("**He", "llo** the", "re. See [the ", "page](https://x.y", "/z). 😀 Bye", "**.")
SPEECH = "Hello there. See the page. Bye."


async def stream(pieces: tuple[str, ...] = PIECES) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def agent(response: Any, **options: Any) -> Any:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(response(), **options)

    return on_transcript


@pytest.mark.parametrize("response", [stream, lambda: "".join(PIECES)], ids=["stream", "text"])
async def test_marks_do_not_reach_the_api(response: Any) -> None:
    async with call(agent(response, shape="plain")) as caller:
        reply = await caller.say("Hello?")
        assert reply.text == SPEECH
        assert caller.summary().is_ok, caller.summary().problems
    async with call(agent(response), shape="plain") as caller:
        assert (await caller.say("Hello?")).text == SPEECH
    async with call(agent(response, shape=False), shape="plain") as caller:
        assert (await caller.say("Hello?")).text == "".join(PIECES)
    async with call(agent(response)) as caller:
        assert (await caller.say("Hello?")).text == "".join(PIECES)


@pytest.mark.parametrize("response", [stream, lambda: "".join(PIECES)], ids=["stream", "text"])
async def test_each_sentence_is_a_chunk(response: Any) -> None:
    async with call(agent(response, shape="plain, sentences")) as caller:
        reply = await caller.say("Hello?")
    assert [chunk for chunk in reply.chunks if chunk] == ["Hello there. ", "See the page. ", "Bye."]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (("😀", " **", "**"), "its text was nothing but what shape= leaves out"),
        (("<think>I never", " end"), "ended behind a block of code or a tag such as <think> that was not closed"),
        (("```py\n", "x = 1"), "ended behind a block of code or a tag such as <think> that was not closed"),
    ],
)
@pytest.mark.parametrize("is_text", [False, True])
async def test_an_answer_of_marks_alone_is_empty(
    pieces: tuple[str, ...], said: str, is_text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    forget_doubts()
    response = (lambda: "".join(pieces)) if is_text else (lambda: stream(pieces))
    async with call(agent(response), shape="plain", empty_answer_text="Hm.") as caller:
        assert (await caller.say("Hello?")).text == "Hm."
        assert not caller.errors
    assert "WARNING" in caplog.text
    assert said in caplog.text


async def test_text_before_a_failure_is_spoken() -> None:
    async def fails() -> AsyncIterator[str]:
        yield "It is half **past"
        raise ConnectionError("the provider is away")

    async with call(agent(fails, shape="plain, sentences"), failure_text="Sorry.") as caller:
        reply = await caller.say("Hello?")
        assert reply.text == "It is half past"
        assert isinstance(caller.errors.pop(), ConnectionError)


async def test_a_limit_counts_what_is_spoken() -> None:
    async with call(agent(lambda: stream(("**" * 2000, "Hello.")), shape="plain"), max_answer_bytes=1024) as caller:
        assert (await caller.say("Hello?")).text == "Hello."


@pytest.mark.parametrize("shape", ["markdown", ["plain"], {"plain"}, 5, b"plain"])
async def test_an_unknown_shape_is_an_error(shape: Any) -> None:
    for response in (stream, lambda: "Hello."):
        async with call(agent(response, shape=shape)) as caller:
            await caller.say("Hello?")
            error = caller.errors.pop()
            assert isinstance(error, ValueError)
            assert f"shape={shape!r} is not valid: expected plain, which leaves out" in str(error)
