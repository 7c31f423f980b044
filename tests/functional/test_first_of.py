"""`first_of`: the first of several streams to give text is spoken, and the others are closed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from se_server import StreamFailed, first_of
from se_server.conversation.findings import forget_doubts
from se_server.testing import call
from tests.providers.script import Script
from tests.providers.server import running_provider


class Contenders:
    """Makes streams, and keeps a journal of what became of them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.closed: list[str] = []

    async def words(self, name: str, after_s: float, *words: str, fails: bool = False) -> AsyncIterator[str]:
        self.started.append(name)
        try:
            await asyncio.sleep(after_s)
            for word in words:
                yield word
                await asyncio.sleep(0.1)
            if fails:
                raise ConnectionError(f"{name} is away")
        finally:
            self.closed.append(name)


@pytest.fixture
def made() -> Contenders:
    return Contenders()


def agent(hedge: Callable[[], Any], turns: list[Any], **options: Any) -> Any:
    async def on_transcript(transcript: Any, session: Any) -> None:
        turns.append(session.turn)
        await session.send_response(hedge(), **options)

    return on_transcript


async def heard(hedge: Callable[[], Any], **options: Any) -> tuple[str, float | None, int | None]:
    """Return what is spoken, when, and the winner."""
    turns: list[Any] = []
    async with call(agent(hedge, turns, **options)) as caller:
        reply = await caller.say("Hello?")
        assert caller.summary().is_ok, caller.summary().problems
    return reply.text, round(reply.first_word_s or 0, 6), turns[0].winner


async def test_a_primary_in_time_is_spoken_alone(made: Contenders) -> None:
    primary, backup = (lambda: made.words("a", 1, "One ", "two.")), (lambda: made.words("b", 0, "Backup."))
    assert await heard(lambda: first_of(primary, backup, after_s=1.2)) == ("One two.", 1, 0)
    assert made.started == made.closed == ["a"]


async def test_a_late_primary_loses_and_is_closed(made: Contenders) -> None:
    assert await heard(
        lambda: first_of(made.words("a", 5, "One."), made.words("b", 0.5, "Back", "up."), after_s=1.2)
    ) == ("Backup.", 1.7, 1)
    assert sorted(made.closed) == ["a", "b"]


async def test_a_primary_overtakes_a_backup_that_has_started(made: Contenders) -> None:
    assert await heard(lambda: first_of(made.words("a", 1.5, "One."), made.words("b", 5, "Backup."), after_s=1.2)) == (
        "One.",
        1.5,
        0,
    )
    assert sorted(made.closed) == ["a", "b"]


async def test_a_failure_starts_the_backup_at_once(made: Contenders, caplog: pytest.LogCaptureFixture) -> None:
    assert await heard(
        lambda: first_of(made.words("a", 0.2, fails=True), made.words("b", 0.1, "Backup."), after_s=9)
    ) == ("Backup.", 0.3, 1)
    assert "conversation conv_1: the primary of first_of failed: ConnectionError: a is away" in caplog.text


@pytest.mark.parametrize("silent", [lambda: "", list, lambda: None, lambda: 5, lambda: {"no": "stream"}])
async def test_a_primary_without_text_loses(silent: Callable[[], Any]) -> None:
    assert (await heard(lambda: first_of(silent, "Backup.", after_s=9)))[0] == "Backup."


async def pieces(*texts: str, every_s: float = 0) -> AsyncIterator[str]:
    for text in texts:
        yield text
        await asyncio.sleep(every_s)


@pytest.mark.parametrize(
    ("texts", "shape"),
    [
        ((" ", "\n"), None),
        (("...", "\u200b"), None),
        (("🎉",), "plain"),
        (("```\n", "x = 1\n```"), "plain"),
        (("**", " ", "---"), "plain, sentences"),
        (("<think>Hm, the user asks", " for it", "</think>"), "plain"),
    ],
)
async def test_text_that_is_not_spoken_loses(texts: tuple[str, ...], shape: str | None) -> None:
    for primary in (lambda: pieces(*texts), lambda: "".join(texts), lambda: first_of(pieces(*texts), list)):
        assert await heard(lambda made=primary: first_of(made, "Backup.", after_s=9), shape=shape) == ("Backup.", 0, 1)
        turns: list[Any] = []
        async with call(agent(lambda made=primary: first_of(made, made), turns, shape=shape)) as caller:
            assert not (await caller.say("Hello?")).text.strip()
        assert turns[0].winner is None
    slow = lambda: pieces(*texts, "Late.", every_s=1)  # noqa: E731
    assert await heard(lambda: first_of(slow, "Backup.", after_s=0.5), shape=shape) == ("Backup.", 0.5, 1)


@pytest.mark.parametrize("shape", ["plain, sentences", "sentences", "9 words"])
async def test_a_sentence_that_has_begun_wins(shape: str) -> None:
    async with call(
        agent(lambda: first_of(pieces("**It** ", "is ", "slow. ", "Yes.", every_s=1), "Backup."), [], shape=shape)
    ) as caller:
        reply = await caller.say("Hello?")
    assert reply.text == ("It is slow. Yes." if "plain" in shape else "**It** is slow. Yes.")
    assert reply.chunks[0] == ("It is slow. " if "plain" in shape else reply.chunks[0])


async def test_blanks_before_the_text_are_kept() -> None:
    assert "".join([text async for text in first_of(pieces(" ", "\n", "He", "llo."), "Backup.")]) == " \nHello."


async def test_a_flood_of_blanks_does_not_hold_the_backup() -> None:
    flood = lambda: pieces(*[" " * 9000] * 100, every_s=0.001)  # noqa: E731
    assert (await heard(lambda: first_of(flood, pieces("Back", "up."), after_s=0.01)))[::2] == ("Backup.", 1)
    assert (await heard(lambda: first_of(flood, "Backup.", after_s=9)))[0] == "Backup."


async def test_contenders_without_text_are_an_empty_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def unknown() -> AsyncIterator[Any]:
        yield {"news": "unheard of"}

    caplog.set_level("INFO")
    forget_doubts()
    options = {"empty_answer_text": "Hm.", "failure_text": "Sorry."}
    async with call(agent(lambda: first_of(pieces(), pieces), []), **options) as caller:
        assert (await caller.say("Hello?")).text == "Hm."
        assert not caller.errors
    assert "WARNING" in caplog.text
    assert "none of its 2 streams gave text to speak; of the first, the stream (async_generator)" in caplog.text
    async with call(agent(lambda: first_of(pieces("🎉"), pieces), [], shape="plain"), **options) as caller:
        assert (await caller.say("Hello?")).text == "Hm."
    assert "the primary of first_of gave no text to speak: the stream (async_generator) was silent" in caplog.text
    async with call(agent(lambda: first_of(pieces(), unknown), []), **options) as caller:
        assert (await caller.say("Hello?")).text == "Sorry."
        assert type(caller.errors.pop()).__name__ == "UnknownStreamError"


async def test_three_contenders_start_one_after_another(made: Contenders) -> None:
    assert await heard(
        lambda: first_of(made.words("a", 9), made.words("b", 9), made.words("c", 1, "Third."), after_s=2)
    ) == ("Third.", 5, 2)
    assert sorted(made.closed) == ["a", "b", "c"]


async def test_all_have_failed_is_the_first_failure(made: Contenders) -> None:
    turns: list[Any] = []
    async with call(
        agent(lambda: first_of(made.words("a", 1, fails=True), made.words("b", 0, fails=True), after_s=0.5), turns),
        failure_text="Sorry.",
    ) as caller:
        assert (await caller.say("Hello?")).text == "Sorry."
        assert str(caller.errors.pop()) == "a is away"
    assert turns[0].winner is None


async def test_a_winner_that_fails_later_is_an_error(made: Contenders) -> None:
    async with call(agent(lambda: first_of(made.words("a", 0, "It is ", fails=True), "Backup."), [])) as caller:
        assert (await caller.say("Hello?")).text == "It is "
        assert str(caller.errors.pop()) == "a is away"


@pytest.mark.parametrize("after_chars", [0, 4])
async def test_an_interruption_closes_all_contenders(made: Contenders, after_chars: int) -> None:
    words = ("Word ",) * 50
    async with call(
        agent(lambda: first_of(made.words("a", 30, "One."), made.words("b", 3, *words), after_s=1), [])
    ) as caller:
        if after_chars:
            caller.interrupt("Stop!", after_chars=after_chars)
        else:
            caller.interrupt("Stop!", after_s=2)  # nothing was spoken yet
        await caller.say("Hello?")
        await caller.hang_up()
    assert sorted(made.closed) == sorted(made.started)
    assert len(made.started) >= 3


async def test_the_options_of_the_answer_are_for_all(made: Contenders) -> None:
    async def events() -> AsyncIterator[Any]:
        yield {"said": "**He", "cost": 3}
        yield {"said": "llo**"}

    spoken, _, winner = await heard(
        lambda: first_of(made.words("a", 60), events, after_s=0.1),
        text=lambda event: event["said"],
        shape="plain",
    )
    assert (spoken, winner) == ("Hello", 1)


async def test_text_like_an_event_stream_stays_text() -> None:
    async def odd() -> AsyncIterator[str]:
        yield "The word is "
        yield "data: as it were"
        yield "{really}"

    assert (await heard(lambda: first_of(odd(), "Backup.")))[0] == "The word is data: as it were{really}"


async def test_silence_and_unknown_events_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def unknown() -> AsyncIterator[Any]:
        yield "Hello."
        yield {"news": "unheard of"}

    caplog.set_level("INFO")
    used = first_of("One.", "Two.")
    assert (await heard(lambda: used))[0] == "One."
    forget_doubts()
    async with call(agent(lambda: used, [])) as caller:
        assert not (await caller.say("Hello?")).text.strip()
    assert "none of its" not in caplog.text  # it was read before
    assert "hedging.FirstOf) was silent" in caplog.text
    assert (await heard(lambda: first_of(unknown(), "Backup.")))[0] == "Hello."
    assert "1 unknown event beside the text" in caplog.text


async def test_a_contender_may_be_a_callable_object() -> None:
    class Ask:
        def __call__(self) -> str:
            return "Asked."

    async def nothing() -> AsyncIterator[str]:
        return
        yield

    assert (await heard(lambda: first_of(nothing, Ask())))[0] == "Asked."
    assert (await heard(lambda: first_of(first_of(nothing(), nothing()), functools.partial(str, "Backup."))))[2] == 1


async def test_system_exit_in_a_contender_is_an_error() -> None:
    async def leaves() -> AsyncIterator[str]:
        yield "Bye."
        raise SystemExit(3)

    async with call(agent(lambda: first_of(leaves(), "Backup."), [])) as caller:
        assert (await caller.say("Hello?")).text == "Bye."
        assert caller.errors.pop() is not None
        assert (await caller.say("Hello?")).text == "Bye."
        caller.errors.clear()


async def test_it_is_iterated_without_a_conversation(made: Contenders) -> None:
    hedge = first_of(made.words("a", 30, "One."), made.words("b", 0, "Back", "up."), after_s=0)
    assert [text async for text in hedge] == ["Back", "up."]
    assert hedge.winner == 1
    await hedge.aclose()
    assert sorted(made.closed) == ["a", "b"]


@pytest.mark.parametrize("after_s", [-1, float("nan"), float("inf"), "1", None, True])
async def test_a_time_that_is_none_is_refused(after_s: Any) -> None:
    with pytest.raises(ValueError, match="seconds until the next stream starts"):
        first_of("One.", "Two.", after_s=after_s)


@pytest.mark.parametrize(
    ("contenders", "sentence"),
    [
        (([pieces, pieces],), r"at least one backup, .* pass the members of a list with a star, first_of\(\*streams\)"),
        ((pieces,), "first_of takes a primary and at least one backup"),
        ((pieces, None), "number 2 is None"),
        ((42, "text"), "number 1 is 42"),
    ],
)
def test_what_can_be_no_answer_is_refused(contenders: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        first_of(*contenders)


async def test_the_losers_request_ends_at_the_provider() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    turns: list[Any] = []
    async with running_provider(Script(text="Five words are all here.")) as provider, aiohttp.ClientSession() as client:
        provider.scripts["slow"] = Script(text="Late", headers_after_s=0.05, first_token_s=30)

        def ask(model: str) -> Any:
            body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
            body["stream_options"] = {"include_usage": True}
            return client.post(provider.base_url("openai") + "/chat/completions", json=body)

        async with call(agent(lambda: first_of(ask("slow"), lambda: ask("fast"), after_s=0.2), turns)) as caller:
            assert "Late" not in (await caller.say("Hello?")).text
            await provider.requests[0].disconnected()
            await provider.idle()
        assert ["disconnected" in repr(request) for request in provider.requests] == [True, False]
        assert turns[0].winner == 1
        assert turns[0].usage is not None


async def test_failures_that_a_stream_reports_lose(made: Contenders, caplog: pytest.LogCaptureFixture) -> None:
    async def reports() -> AsyncIterator[Any]:
        yield {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "overloaded"}}}

    assert (await heard(lambda: first_of(reports(), made.words("b", 0, "Backup."), after_s=9)))[0] == "Backup."
    assert StreamFailed.__name__ in caplog.text
