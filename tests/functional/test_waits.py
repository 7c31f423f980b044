"""Waits, in virtual time: a handler that is silent for long, an answer that got lost, a user who has not finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.conversation.settings import SessionSettings
from se_server.errors import ConfigError
from se_server.simulator.habits import FailedAnswers, Silence
from se_server.testing import Caller, CallerError, Habits, Outcome, call

LIVE = Habits.live()
READINGS = [FailedAnswers.NONE, FailedAnswers.EMPTY]


def under(reading: FailedAnswers, **habits: Any) -> Habits:
    return Habits(resend_after_s=4, failed_answers=reading, **habits)


async def tool_call() -> AsyncIterator[dict[str, Any]]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}}]}


async def words(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def broken() -> AsyncIterator[str]:
    raise ConnectionError("provider")
    yield ""


class Agent:
    """Answers after `thinks_s` seconds, and keeps its turns."""

    def __init__(self, thinks_s: float = 0.0, text: str = "Here you are.") -> None:
        self.thinks_s = thinks_s
        self.text = text
        self.turns: list[Any] = []
        self.said: list[str] = []
        self.interrupted: list[Any] = []

    async def on_transcript(self, transcript: Any, session: Any) -> None:
        self.turns.append(session.turn)
        self.said.append(transcript[-1].content)
        await session.send_response(tool_call())
        await asyncio.sleep(self.thinks_s)
        if self.text:
            await session.send_response(self.text)

    async def on_interrupt(self, turn: Any, session: Any) -> None:
        self.interrupted.append(turn)


def stats(caller: Caller) -> Any:
    assert caller.session is not None
    return caller.session._stats


# --- a handler that is silent for long ------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
async def test_a_long_tool_call_is_held(reading: FailedAnswers) -> None:
    agent = Agent(thinks_s=13)
    async with call(agent, habits=under(reading)) as caller:
        reply = await caller.say("Where is my order?")
        assert (reply.text, reply.first_word_s, reply.verdict.tries) == ("Here you are.", pytest.approx(13), 1)
        assert stats(caller).blanks_sent == 1
    (turn,) = agent.turns
    assert (turn.text, turn.chunks, turn.held) == ("Here you are.", 1, True)
    assert turn.first_chunk_at - turn.started_at == pytest.approx(13)


async def test_the_blank_is_sent_when_it_is_due() -> None:
    agent = Agent(thinks_s=13)
    async with call(agent, habits=LIVE) as caller:
        turn = caller.utter("Where is my order?")
        await caller.pause(2.9)
        assert turn.asks[-1].responded_at is None
        await caller.pause(0.2)
        assert turn.asks[-1].responded_at == pytest.approx(turn.said_at + 3, abs=0.01)


async def test_each_turn_has_a_blank_of_its_own() -> None:
    """A blank is due for each turn by its own clock, however turns follow each other."""
    agent = Agent(thinks_s=5)
    async with call(agent, habits=LIVE) as caller:
        for pause_s in (0.0, 0.7, 2.9, 3.1, 17.0):
            await caller.pause(pause_s)
            turn = caller.utter("Where is my order?")
            await caller.reply_to(turn)
            assert turn.asks[-1].responded_at == pytest.approx(turn.said_at + 3, abs=0.01)
        assert stats(caller).blanks_sent == 5


@pytest.mark.parametrize("off", ["off", False, "false"])
async def test_without_a_hold_the_api_gives_up(off: Any) -> None:
    async with call(Agent(thinks_s=13), habits=LIVE, hold_after_s=off) as caller:
        with pytest.raises(CallerError, match="generation failed"):
            await caller.say("Where is my order?")


async def test_a_hold_is_no_answer_where_blanks_count_as_failed() -> None:
    """Under the strictest reading only words help."""
    habits = under(FailedAnswers.WORDLESS)
    async with call(Agent(thinks_s=13), habits=habits) as caller:
        with pytest.raises(CallerError, match="generation failed"):
            await caller.say("Where is my order?")
    words = {"first_word_after_s": 3, "first_word_text": "One moment."}
    async with call(Agent(thinks_s=13), habits=habits, **words) as caller:
        assert (await caller.say("Where is my order?")).text == "One moment. Here you are."


async def test_the_first_word_is_spoken_after_a_blank() -> None:
    async with call(Agent(thinks_s=9), habits=LIVE, first_word_after_s=5, first_word_text="One moment.") as caller:
        reply = await caller.say("Where is my order?")
        assert (reply.text, reply.first_word_s) == ("One moment. Here you are.", pytest.approx(5))
        assert stats(caller).blanks_sent == 1


async def test_no_blank_follows_a_first_word() -> None:
    async with call(Agent(thinks_s=9), habits=LIVE, first_word_after_s=2, first_word_text="One moment.") as caller:
        await caller.say("Where is my order?")
        assert stats(caller).blanks_sent == 0


async def test_a_blank_is_no_begun_answer() -> None:
    """Same words again are adopted after a blank, and get a blank of their own."""
    agent = Agent(thinks_s=8)
    habits = Habits(extra_ids=1, extra_id_after_s=1.5, resend_after_s=4)
    async with call(agent, habits=habits, retranscription="adopt", hold_after_s=1) as caller:
        turn = caller.utter("Where is my order?")
        reply = await caller.reply_to(turn)
        assert reply.text == "Here you are."
        assert stats(caller).blanks_sent == 2
    assert len(agent.turns) == 1


async def test_a_blank_for_a_handler_that_waits_is_no_interruption() -> None:
    class Slow(Agent):
        async def on_init(self, conversation_id: str, session: Any) -> None:
            await asyncio.sleep(5)

    agent = Slow()
    async with call(agent, habits=LIVE) as caller:
        caller.utter("Where is")
        await caller.pause(4)
        reply = await caller.reply_to(caller.utter("Where is my order?"))
        assert reply.text == "Here you are."
    assert agent.interrupted == []
    assert agent.said == ["Where is my order?"]


# --- answers without text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("thinks_s", [0.0, 5.0])
async def test_a_turn_without_text_does_not_end_the_call(reading: FailedAnswers, thinks_s: float) -> None:
    agent = Agent(thinks_s, text="")
    async with call(agent, habits=under(reading)) as caller:
        await caller.say("hello")
        await caller.pause(20)
        assert caller.ended is None
        assert stats(caller).answers_empty == 1
    (turn,) = agent.turns
    assert (turn.text, turn.chunks, turn.first_chunk_at) == ("", 0, None)


async def test_a_final_alone_ends_the_call_where_it_counts_as_failed() -> None:
    async with call(Agent(text=""), habits=under(FailedAnswers.EMPTY), empty_answer_text="") as caller:
        with pytest.raises(CallerError, match="generation failed"):
            await caller.say("hello")


async def test_words_for_an_empty_answer_are_part_of_the_turn() -> None:
    agent = Agent(text="")
    async with call(agent, habits=under(FailedAnswers.WORDLESS), empty_answer_text="Mm-hm.") as caller:
        assert (await caller.say("hello")).text == "Mm-hm."
    assert agent.turns[0].text == "Mm-hm."


@pytest.mark.parametrize("reading", READINGS)
async def test_a_failure_without_text_does_not_end_the_call(reading: FailedAnswers) -> None:
    async def fail(transcript: Any, session: Any) -> None:
        raise KeyError("lost")

    async with call(fail, habits=under(reading)) as caller:
        await caller.say("hello")
        await caller.pause(20)
        assert caller.ended is None
        caller.errors.clear()


async def test_a_failed_handler_runs_again_under_the_strictest_reading() -> None:
    runs = []

    async def fails_once(transcript: Any, session: Any) -> None:
        runs.append(session.turn.event_id)
        if len(runs) == 1:
            raise KeyError("lost")
        await session.send_response("Back again.")

    async with call(fails_once, habits=under(FailedAnswers.WORDLESS), failed_transcripts="retry") as caller:
        assert (await caller.say("hello")).text == "Back again."
        caller.errors.clear()
    assert len(runs) == 2


RETRY = {"failed_transcripts": "retry"}
STAND_INS = {
    "empty answer": {"empty_answer_text": "Mm-hm."},
    "failure": {"failure_text": "I could not look it up."},
    "failure with one final": {"failure_text": "I could not look it up.", "finals": "turn"},
    "first word": {"first_word_after_s": 0.5, "first_word_text": "One moment."},
    "all": {
        "empty_answer_text": "Mm-hm.",
        "failure_text": "I could not look it up.",
        "first_word_after_s": 0.5,
        "first_word_text": "One moment.",
        "hold_after_s": 0.2,
    },
}


@pytest.mark.parametrize("fails", ["raises", "times out", "sends blanks and raises"])
@pytest.mark.parametrize("stand_in", STAND_INS)
async def test_a_text_that_stands_for_an_answer_is_no_answer(stand_in: str, fails: str) -> None:
    """With "retry" the handler runs once more, whatever the caller has heard in place of its answer."""
    runs = []

    async def fails_twice(transcript: Any, session: Any) -> None:
        runs.append(transcript[-1].content)
        if len(runs) > 2:
            await session.send_response("Third time lucky.")
        if fails.startswith("sends"):
            await session.send_response("  ")
            await session.send_response(words("\n", " "))
        await asyncio.sleep(30 if fails == "times out" else 1)
        raise KeyError("lost")

    options = {**RETRY, **STAND_INS[stand_in], "turn_timeout_s": 2}
    async with call(fails_twice, habits=Habits(loses_answer=True, resend_after_s=4), **options) as caller:
        caller.utter("hello")
        await caller.pause(25)
        assert stats(caller).turns_retried == 1
        assert runs == ["hello", "hello"], "once more, and not twice"
        caller.errors.clear()


@pytest.mark.parametrize("speaks", ["before", "after", "in on_error"])
async def test_an_answer_that_was_begun_is_not_given_again(speaks: str) -> None:
    runs = []

    class Half:
        async def on_transcript(self, transcript: Any, session: Any) -> None:
            runs.append(transcript[-1].content)
            if speaks == "before":
                await session.send_response(words("Your order "), final=False)
            if speaks == "after":
                await session.send_response(broken())
                await session.send_response("From memory: yes.")
            raise KeyError("lost")

        async def on_error(self, error: Exception, session: Any) -> None:
            if speaks == "in on_error":
                await session.send_response("From memory: yes.")

    habits = Habits(loses_answer=True, resend_after_s=4)
    async with call(Half(), habits=habits, failure_text="One moment.", finals="turn", **RETRY) as caller:
        caller.utter("hello")
        await caller.pause(15)
        assert (runs, stats(caller).turns_retried, stats(caller).answers_replayed) == (["hello"], 0, 1)
        caller.errors.clear()


@pytest.mark.parametrize("turn", ["answered", "empty", "failed", "timed out", "silent"])
async def test_nothing_is_sent_again_on_request(turn: str) -> None:
    """With "ignore" an answered transcript that comes again gets nothing, also no blank and no final."""

    async def on_transcript(transcript: Any, session: Any) -> None:
        if turn == "answered":
            await session.send_response("Here.")
        elif turn == "failed":
            raise KeyError("lost")
        elif turn == "timed out":
            await asyncio.sleep(30)

    options = {"answered_transcripts": "ignore", "silence_turns": "stay_silent", "turn_timeout_s": 1}
    async with call(on_transcript, habits=Habits(loses_answer=True, resend_after_s=4), **options) as caller:
        said = caller.utter("..." if turn == "silent" else "hello")
        await caller.pause(6)
        assert len(said.asks[-1].sent_at) > 1
        assert said.asks[-1].responded_at is None, "the first answer was lost, and nothing came after it"
        assert stats(caller).transcripts_answered == 1
        caller.errors.clear()


# --- lost answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("thinks_s", [0.0, 3.5, 9.0])
async def test_a_lost_answer_comes_again(reading: FailedAnswers, thinks_s: float) -> None:
    agent = Agent(thinks_s)
    async with call(agent, habits=under(reading, loses_answer=True)) as caller:
        for _ in range(3):
            reply = await caller.say("hello")
            assert (reply.text, reply.verdict.outcome, reply.verdict.is_ok) == ("Here you are.", Outcome.HEARD, True)
        assert stats(caller).answers_replayed == 3
    assert len(agent.turns) == 3, "no handler runs twice"


async def test_a_kept_answer_is_let_go() -> None:
    async with call(Agent(), habits=LIVE) as caller:
        await caller.say("hello")
        assert caller.session is not None
        await caller.pause(19)
        assert caller.session._ledger.newest is not None
        await caller.pause(2)
        assert caller.session._ledger.newest is None


@pytest.mark.parametrize("failed_transcripts", ["ignore", "retry"])
async def test_the_slowest_cascade_asks_in_time(failed_transcripts: str) -> None:
    """An engine may wait 15 s; its transcript takes a moment to come."""
    runs = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        runs.append(session.turn)
        if failed_transcripts == "retry" and len(runs) == 1:
            raise ConnectionError("the model is away")
        await session.send_response("Here you are.")

    habits = Habits(loses_answer=True, resend_after_s=15.2)
    async with call(on_transcript, habits=habits, failed_transcripts=failed_transcripts) as caller:
        assert (await caller.say("hello")).text == "Here you are."
        caller.errors.clear()
    assert len(runs) == (2 if failed_transcripts == "retry" else 1)


@pytest.mark.parametrize(("text", "replays"), [("漢" * 21_845, 1), ("漢" * 21_846, 0)], ids=["within", "beyond"])
async def test_the_limit_of_a_lost_answer_is_in_bytes(text: str, replays: int) -> None:
    async with call(Agent(text=text), habits=Habits(loses_answer=True, resend_after_s=4)) as caller:
        caller.utter("hello")
        await caller.pause(5)
        assert stats(caller).answers_replayed == replays


# --- text after a final ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("finals", "heard"), [("response", "One. "), ("turn", "One. Two.")])
async def test_one_final_a_turn_has_all_answers_heard(finals: str, heard: str) -> None:
    async def twice(transcript: Any, session: Any) -> None:
        await session.send_response("One. ")
        await asyncio.sleep(1)
        await session.send_response("Two.")

    async with call(twice, habits=Habits(discards_after_final=True), finals=finals) as caller:
        turn = caller.utter("hello")
        await caller.pause(5)
        assert turn.heard == heard


async def test_a_second_final_is_logged_although_the_first_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that is sent again has a final of its own, which is not the handler's."""

    async def pauses_between_texts(transcript: Any, session: Any) -> None:
        await session.send_response("One. ")
        await asyncio.sleep(6)
        if len(transcript) == 1:
            await session.send_response("Two.")

    habits = Habits(loses_answer=True, resend_after_s=4)
    async with call(pauses_between_texts, habits=habits) as caller:
        await caller.pause(1)
        turn = caller.utter("hello")
        await caller.pause(10)
        assert turn.heard == "One. Two."
        assert stats(caller).answers_replayed == 1
        (warning,) = [record.getMessage() for record in caplog.records if "second answer" in record.getMessage()]
        assert "pauses_between_texts" in warning
        caplog.clear()
        caller.utter("hello again")
        await caller.pause(10)
        assert stats(caller).answers_replayed == 2
    assert not [record for record in caplog.records if "second answer" in record.getMessage()]


async def test_a_tool_call_is_no_answer() -> None:
    async with call(Agent(thinks_s=1), habits=Habits(discards_after_final=True)) as caller:
        assert (await caller.say("hello")).text == "Here you are."


async def test_a_failure_midway_has_one_final_with_finals_by_turn() -> None:
    async def goes_on(transcript: Any, session: Any) -> None:
        await session.send_response(broken())
        await session.send_response("From memory: yes.")

    options = {"finals": "turn", "failure_text": "One moment. "}
    async with call(goes_on, habits=Habits(discards_after_final=True), **options) as caller:
        assert (await caller.say("hello")).text == "One moment. From memory: yes."
        caller.errors.clear()


# --- an utterance that grows ----------------------------------------------------------------------------------------


async def test_a_growing_utterance_costs_one_handler() -> None:
    agent = Agent()
    async with call(agent, habits=Habits(growing_parts=4), settle_s=0.3) as caller:
        turn = caller.utter("one two three four five")
        reply = await caller.reply_to(turn)
        assert reply.text == "Here you are."
        assert reply.verdict.complete_s == pytest.approx(1.3, abs=0.01)
    assert agent.said == ["one two three four five"]
    (turn_of_agent,) = agent.turns
    assert turn_of_agent.started_at == pytest.approx(turn.said_at, abs=0.01), "latency counts from the first word"
    assert agent.interrupted == []


async def test_without_settling_each_part_runs() -> None:
    agent = Agent(thinks_s=1)
    async with call(agent, habits=Habits(growing_parts=2)) as caller:
        await caller.reply_to(caller.utter("one two three"))
    assert agent.said == ["one", "one two", "one two three"]


async def test_the_first_word_counts_from_the_first_part() -> None:
    agent = Agent(thinks_s=5)
    options = {"settle_s": 0.6, "first_word_after_s": 2, "first_word_text": "One moment."}
    async with call(agent, habits=Habits(growing_parts=2), **options) as caller:
        turn = caller.utter("one two three")
        reply = await caller.reply_to(turn)
        assert reply.first_word_s == pytest.approx(2, abs=0.01)


async def test_an_interruption_stops_the_old_handler_before_it_settles() -> None:
    agent = Agent(thinks_s=2)
    async with call(agent, settle_s=1) as caller:
        caller.utter("one")
        await caller.pause(1.5)
        second = caller.utter("two")
        await caller.pause(0.1)
        assert agent.turns[0].interrupted
        reply = await caller.reply_to(second)
        assert (reply.text, reply.verdict.complete_s) == ("Here you are.", pytest.approx(3, abs=0.1))
    assert agent.said == ["one", "two"]
    assert agent.interrupted == [agent.turns[0]]


@pytest.mark.parametrize("end", ["close", "drop"])
async def test_last_words_that_have_not_settled_reach_their_handler(end: str) -> None:
    agent = Agent(thinks_s=1)
    async with call(agent, settle_s=1) as caller:
        await caller.say("hello")
        caller.utter("goodbye")
        await caller.pause(0.2)
        await (caller.drop() if end == "drop" else caller.hang_up())
    assert agent.said == ["hello", "goodbye"]


async def test_a_turn_that_has_not_settled_may_time_out() -> None:
    """The utterance grows for longer than its turn may take."""
    agent = Agent()
    async with call(agent, settle_s=0.6, turn_timeout_s=1, failure_text="Sorry.") as caller:
        for count in range(1, 4):
            turn = caller.utter(" ".join(["hello"] * count))
            await caller.pause(0.4 if count < 3 else 0.0)
        assert (await caller.reply_to(turn)).text == "Sorry."
        await caller.pause(5)
        caller.errors.clear()
    assert agent.said == []


# --- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silence", [Silence.DOTS, Silence.ELLIPSIS, Silence.DOT, Silence.AGENT_LAST])
async def test_a_silence_is_met_with_silence(silence: Silence) -> None:
    agent = Agent()
    habits = under(FailedAnswers.EMPTY, silence=silence, silence_after_s=5)
    async with call(agent, habits=habits, silence_turns="stay_silent") as caller:
        await caller.say("hello")
        await caller.pause(30)
        assert caller.ended is None
        assert [caller.verdict(turn).outcome for turn in caller.turns] == [Outcome.HEARD, Outcome.STAYED_SILENT]
    assert agent.said == ["hello"]


@pytest.mark.parametrize("empty_answer_text", [" ", "", "Mm-hm.", "\u00a0"])
async def test_staying_silent_speaks_no_words(empty_answer_text: str) -> None:
    options = {"silence_turns": "stay_silent", "empty_answer_text": empty_answer_text}
    async with call(Agent(), habits=Habits(loses_answer=True, resend_after_s=4), **options) as caller:
        silence = caller.utter("...")
        await caller.pause(20)
        assert silence.heard.strip() == ""
        assert silence.is_final
        assert stats(caller).answers_replayed == 1


@pytest.mark.parametrize("options", [{}, {"settle_s": 2.0}, {"hold_after_s": "off"}, {"finals": "turn"}])
@pytest.mark.parametrize("begins", [False, True])
async def test_silence_does_not_cancel_a_running_answer(options: dict[str, Any], begins: bool) -> None:
    agent = Agent(thinks_s=6)

    async def on_transcript(transcript: Any, session: Any) -> None:
        if begins:
            await session.send_response("One moment. ", final=False)
        await agent.on_transcript(transcript, session)
        assert not session.turn.is_silence

    async with call(on_transcript, habits=LIVE, silence_turns="stay_silent", **options) as caller:
        caller.utter("What is my balance?")
        await caller.pause(1.5 if "settle_s" in options else 5)
        silence = caller.utter("...")
        reply = await caller.reply_to(silence)
        assert reply.text.strip().endswith("Here you are.")
        assert silence.heard.strip().endswith("Here you are.")
        assert stats(caller).turns_superseded == 0
    assert agent.said == ["What is my balance?"]


@pytest.mark.parametrize("reading", FailedAnswers)
async def test_a_first_word_before_a_silence_keeps_the_call(reading: FailedAnswers) -> None:
    agent = Agent(thinks_s=12)
    words = {"first_word_after_s": 2, "first_word_text": "One moment."}
    async with call(agent, habits=under(reading), silence_turns="stay_silent", **words) as caller:
        caller.utter("What is my balance?")
        await caller.pause(5)
        reply = await caller.reply_to(caller.utter("..."))
        assert reply.text.strip() == "One moment. Here you are."
        assert agent.turns[0].text == "One moment. One moment. Here you are."


async def test_silence_after_an_answer_is_met_with_silence() -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("Booked.")
        await asyncio.sleep(30)

    async with call(on_transcript, silence_turns="stay_silent") as caller:
        assert (await caller.say("Book it.")).text == "Booked."
        assert (await caller.say("...")).verdict.outcome is Outcome.SILENT


@pytest.mark.parametrize(("empty_answer_text", "sent"), [("…", "…"), ("", ""), ("Mm-hm.", " "), (" ", " ")])
async def test_staying_silent_sends_the_wordless_text(empty_answer_text: str, sent: str) -> None:
    async with call(Agent(), silence_turns="stay_silent", empty_answer_text=empty_answer_text) as caller:
        turn = caller.utter("...")
        await caller.pause(1)
        assert (turn.heard, turn.is_final) == (sent.strip(), True)
        assert stats(caller).silences == 1


async def test_a_handler_may_answer_silence_with_the_empty_answer() -> None:
    """It is the words for a handler that says nothing, in silence, too: only "stay_silent" promises silence."""
    async with call(Agent(text=""), empty_answer_text="Mm-hm.") as caller:
        assert (await caller.say("...")).text == "Mm-hm."


# --- blank texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["   ", "\n", "\u2003", "streamed"])
async def test_a_blank_text_is_no_answer(blank: str) -> None:
    """It goes out at once and holds the API; the answer and its only final follow it."""
    turns = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        turns.append(session.turn)
        await session.send_response(words(" ", "\n") if blank == "streamed" else blank)
        assert (session.turn.text, session.turn.chunks, session.turn.held) == ("", 0, True)
        await asyncio.sleep(13)
        if len(turns) == 1:
            await session.send_response("Here you are.")

    async with call(on_transcript, habits=Habits(resend_after_s=4, discards_after_final=True)) as caller:
        reply = await caller.say("Where is my order?")
        assert (reply.text.strip(), reply.verdict.tries) == ("Here you are.", 1)
        assert turns[0].first_chunk_at - turns[0].started_at == pytest.approx(13)
        await caller.say("And now?")
        assert (stats(caller).answers_empty, stats(caller).blanks_sent) == (1, 0)
        assert turns[1].finals == 1


async def test_a_blank_text_silences_no_other_text() -> None:
    """A first word, a failure text and words for an empty answer are spoken after it."""

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(" ")
        await asyncio.sleep(5)
        if transcript[-1].content == "fail":
            raise KeyError("lost")

    async with call(on_transcript, empty_answer_text="Mm-hm.", failure_text="Sorry.") as caller:
        assert (await caller.say("hello")).text.strip() == "Mm-hm."
        assert (await caller.say("fail")).text.strip() == "Sorry."
        caller.errors.clear()
    async with call(on_transcript, first_word_after_s=2, first_word_text="One moment.") as caller:
        assert (await caller.say("hello")).text.strip() == "One moment."


@pytest.mark.parametrize("failure_text", ["Sorry.", None])
async def test_a_blank_after_a_final_asks_for_no_other(failure_text: str | None) -> None:
    turns = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        turns.append(session.turn)
        await session.send_response(broken())
        await session.send_response(" ")
        await session.send_response(words("\n"))

    async with call(on_transcript, failure_text=failure_text) as caller:
        await caller.say("hello")
        await caller.pause(1)
        caller.errors.clear()
    assert (turns[0].finals, turns[0].text) == (1, failure_text or "")


async def test_blanks_within_an_answer_belong_to_it() -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("One.", final=False)
        await session.send_response(" ", final=False)
        await session.send_response(words("\n", "Two."))
        assert session.turn.text == "One. \nTwo."

    async with call(on_transcript) as caller:
        assert (await caller.say("hello")).text == "One. \nTwo."


@pytest.mark.parametrize("blank", [" ", "\n", "stream", "tools"])
async def test_blanks_after_words_end_no_answer(blank: str) -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("One moment. ", final=False)
        await asyncio.sleep(3)
        streams = {"stream": words("\n", " "), "tools": tool_call()}
        await session.send_response(streams.get(blank, blank))
        assert session.turn.finals == 0
        await asyncio.sleep(2)
        await session.send_response("Your balance is 5.")

    async with call(on_transcript, habits=Habits(discards_after_final=True)) as caller:
        reply = await caller.say("What is my balance?")
        assert reply.text.endswith("Your balance is 5.")


@pytest.mark.parametrize("blank", [" ", "stream"])
async def test_a_blank_after_an_answer_asks_for_no_second_final(blank: str) -> None:
    turns = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        turns.append(session.turn)
        await session.send_response("Hello.")
        await session.send_response(words("\n") if blank == "stream" else blank)

    async with call(on_transcript) as caller:
        await caller.say("hello")
        await caller.pause(1)
    assert turns[0].finals == 1


async def test_an_empty_text_ends_the_open_answer() -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("One.", final=False)
        await session.send_response("")
        assert session.turn.finals == 1

    async with call(on_transcript) as caller:
        assert (await caller.say("hello")).text == "One."


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hold_after_s", 0, "a number of seconds above 0"),
        ("hold_after_s", "soon", "or off"),
        ("hold_after_s", True, "or off"),
        ("empty_answer_text", 3, "a text, which may be empty"),
        ("empty_answer_text", "\ud800", "surrogates"),
        ("answered_transcripts", "again", "one of replay, ignore"),
        ("failed_transcripts", "replay", "one of ignore, retry"),
        ("finals", "none", "one of response, turn"),
        ("settle_s", -1, "a number of seconds"),
        ("silence_turns", "quiet", "one of handle, stay_silent"),
        ("first_word_text", " ", "a text"),
        ("first_word_text", ["One", "\n"], "a text"),
        ("first_word_text", "\ud800", "surrogates"),
        ("failure_text", "\ud800", "surrogates"),
        ("turn_timeout_s", 0, "or off"),
        ("max_answer_bytes", "much", "a size"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with call(Agent(), **{name: value}):
            pass
    assert name in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"hold_after_s": 4}, "hold_after_s"),
        ({"hold_after_s": "60", "settle_s": 0.3}, "hold_after_s"),
        ({"settle_s": 5}, "settle_s"),
        ({"settle_s": 4.5, "hold_after_s": "off"}, "settle_s"),
    ],
)
async def test_a_wait_beyond_the_patience_of_the_api_is_doubted(options: dict[str, Any], name: str) -> None:
    with pytest.warns(UserWarning, match=rf"^{name} is [0-9.]+ s.*cascade_timeout_seconds \(4 unless set") as caught:
        async with call(Agent(), **options):
            pass
    assert len(caught) == 1


async def _has_no_time(settle_s: float) -> None:
    async with call(Agent(), settle_s=settle_s, turn_timeout_s=1) as caller:
        await caller.say("hello")
        (error,) = caller.errors
        assert str(error).endswith("took more than 1 s, and its handler had not begun")
        caller.errors.clear()


@pytest.mark.parametrize("settle_s", [1.5, 2])
async def test_a_timeout_before_the_handler_is_doubted(settle_s: float) -> None:
    with pytest.warns(UserWarning, match=r"settle_s is .*turn_timeout_s.* 1 s: every turn ends before its handler"):
        await _has_no_time(settle_s)


@pytest.mark.parametrize(
    "name",
    ["hold_after_s", "turn_timeout_s", "chunk_pace_s", "max_conversation_s", "idle_timeout_s", "max_answer_bytes"],
)
def test_a_limit_is_switched_off_by_name(name: str) -> None:
    for off in ("off", "OFF", False):
        assert getattr(SessionSettings.of({name: off}), name) is None


async def test_a_hold_that_a_first_word_replaces_is_not_doubted() -> None:
    async with call(Agent(), hold_after_s=10, first_word_after_s=2, first_word_text="One moment."):
        pass


async def test_the_hold_counts_from_the_transcript_while_it_settles() -> None:
    agent = Agent(thinks_s=3)
    async with call(agent, habits=LIVE, settle_s=2) as caller:
        turn = caller.utter("Where is my order?")
        reply = await caller.reply_to(turn)
        assert turn.asks[-1].responded_at == pytest.approx(turn.said_at + 3, abs=0.01)
        assert (reply.text, reply.first_word_s, reply.verdict.tries) == ("Here you are.", pytest.approx(5), 1)


@pytest.mark.parametrize("name", ["final", "speak_refusals", "takeover"])
@pytest.mark.parametrize("value", ["no", 0, 1.0, [True]])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_flag_is_true_or_false(name: str, value: Any, is_stream: bool) -> None:
    """Any other value is an `error` event that names it; the handler goes on."""
    closed = []

    async def stream() -> AsyncIterator[str]:
        try:
            yield "Here."
        finally:
            closed.append(True)

    async def on_transcript(transcript: Any, session: Any) -> None:
        response = stream()
        if is_stream:
            await response.__anext__()
        await session.send_response(response if is_stream else "Here.", **{name: value})
        await session.send_response("Otherwise.")

    async with call(on_transcript) as caller:
        assert (await caller.say("hello")).text == "Otherwise."
        (error,) = caller.errors
        assert isinstance(error, TypeError)
        assert str(error) == f"send_response takes True or False as {name}=, not {value!r}"
        caller.errors.clear()
    assert closed == ([True] if is_stream else [])


async def test_true_shapes_for_speech() -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("**Bold** *text*.", shape=True)

    async with call(on_transcript) as caller:
        assert (await caller.say("hello")).text == "Bold text."


@pytest.mark.parametrize("shape", [1, 0, ["plain"], {"plain"}, 2.5])
async def test_another_shape_is_refused_by_name(shape: Any) -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response("Bold.", shape=True)
        await session.send_response("Bold.", shape=shape)

    async with call(on_transcript) as caller:
        await caller.say("hello")
        (error,) = caller.errors
        assert isinstance(error, ValueError)
        assert "shape=" in str(error)
        caller.errors.clear()
