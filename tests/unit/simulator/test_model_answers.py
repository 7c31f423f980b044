"""The readings of the API: answers that are lost, that count as failed, or that come after a final; and silence."""

from __future__ import annotations

import json

import pytest

from se_server.simulator.calls import Close, Drop, Send
from se_server.simulator.habits import FailedAnswers, Goodbye, Moment, Silence
from se_server.simulator.judge import Outcome
from se_server.simulator.model import GENERATION_FAILED
from tests.unit.simulator.test_model_habits import Call


def test_an_empty_answer_counts_as_an_answer_by_default() -> None:
    call = Call(resend_after_s=4)
    call.say("hello")
    call.answer(10, "", is_final=True)
    call.pass_time(20)
    assert call.sent_ids() == [10]
    assert call.model.end_reason == ""


def test_empty_answers_end_the_conversation_after_three_tries() -> None:
    call = Call(resend_after_s=4, failed_answers=FailedAnswers.EMPTY)
    call.say("hello")
    for _ in range(3):
        call.answer(10, "", is_final=True)
        call.pass_time(4)
    assert call.sent_ids() == [10, 10, 10]
    assert call.model.end_reason == GENERATION_FAILED
    assert call.verdict().outcome is Outcome.SILENT


@pytest.mark.parametrize(("text", "is_enough"), [(" ", True), ("\u2026", True), ("a", True), ("", False)])
def test_a_blank_is_an_answer_that_is_not_empty(text: str, is_enough: bool) -> None:
    call = Call(resend_after_s=4, failed_answers=FailedAnswers.EMPTY)
    call.say("hello")
    call.answer(10, text)
    call.answer(10, "", is_final=True)
    call.pass_time(20)
    assert (call.model.end_reason == "") is is_enough


@pytest.mark.parametrize(("text", "is_enough"), [(" ", False), ("...", False), ("7", True), ("\u00e9", True)])
def test_a_wordless_answer_has_no_letter_or_digit(text: str, is_enough: bool) -> None:
    call = Call(resend_after_s=4, failed_answers="wordless")
    call.say("hello")
    call.answer(10, text, is_final=True)
    call.pass_time(20)
    assert (call.model.end_reason == "") is is_enough


def test_a_later_text_completes_an_answer_that_failed_before() -> None:
    call = Call(resend_after_s=4, failed_answers=FailedAnswers.EMPTY)
    call.say("hello")
    call.answer(10, "", is_final=True)
    call.answer(10, "Hi.", is_final=True)
    call.pass_time(20)
    assert call.sent_ids() == [10]
    assert (call.verdict().outcome, call.verdict().heard) == (Outcome.HEARD, "Hi.")


def test_a_blank_before_the_first_word_is_not_heard() -> None:
    call = Call()
    call.say("hello")
    call.pass_time(3)
    call.answer(10, " ")
    call.pass_time(2)
    call.answer(10, "Hi ")
    call.answer(10, " ")
    call.answer(10, "there.", is_final=True)
    assert (call.verdict().heard, call.verdict().first_word_s) == ("Hi  there.", 5)


# --- lost answers ---------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_asked_for_again_and_heard() -> None:
    call = Call(resend_after_s=4, loses_answer=True)
    call.say("hello")
    call.answer(10, "Hi ")
    call.pass_time(9)  # a long answer: the loss shows at its end
    call.answer(10, "there.", is_final=True)
    call.pass_time(4)
    assert call.sent_ids() == [10, 10]
    assert call.model.history == [{"role": "user", "content": "hello"}]
    call.answer(10, "Hi there.", is_final=True)
    call.pass_time(20)
    assert call.sent_ids() == [10, 10]
    verdict = call.verdict()
    assert (verdict.outcome, verdict.heard, verdict.is_billed_twice, verdict.is_ok) == (
        Outcome.HEARD,
        "Hi there.",
        False,
        True,
    )


def test_a_lost_answer_begins_a_new_count_of_tries() -> None:
    call = Call(resend_after_s=4, loses_answer=True)
    call.say("hello")
    call.pass_time(9)
    call.answer(10, "Hi.", is_final=True)
    call.pass_time(15.9)
    assert call.sent_ids() == [10] * 6
    assert call.model.end_reason == ""
    call.pass_time(0.2)
    assert call.model.end_reason == GENERATION_FAILED


def test_without_repetition_no_answer_is_lost() -> None:
    call = Call(loses_answer=True)
    call.say("hello")
    call.answer(10, "Hi.", is_final=True)
    assert call.verdict().outcome is Outcome.HEARD


# --- text after the final -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_discarded", [False, True])
def test_text_after_the_final(is_discarded: bool) -> None:
    call = Call(discards_after_final=is_discarded)
    call.say("hello")
    call.answer(10, "One. ")
    call.answer(10, "", is_final=True)
    call.answer(10, "Two.")
    call.answer(10, "", is_final=True)
    verdict = call.verdict()
    assert verdict.heard == ("One. " if is_discarded else "One. Two.")
    assert verdict.cut_chars == (4 if is_discarded else 0)
    assert verdict.is_ok is not is_discarded


# --- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silence", "last"),
    [
        (Silence.DOTS, {"role": "user", "content": "..."}),
        (Silence.ELLIPSIS, {"role": "user", "content": "\u2026"}),
        (Silence.DOT, {"role": "user", "content": "."}),
        (Silence.AGENT_LAST, {"role": "agent", "content": "Hi."}),
    ],
)
def test_a_pause_without_words_gives_a_transcript(silence: Silence, last: dict[str, str]) -> None:
    call = Call(silence=silence, silence_after_s=2)
    call.say("hello")
    call.answer(10, "Hi.", is_final=True)
    assert call.model.awaits_silence
    call.pass_time(2)
    assert call.sent_ids() == [10, 20]
    assert call.sent()[-1]["user_transcript"][-1] == last
    call.answer(20, "", is_final=True)
    assert (call.verdict().outcome, call.verdict().is_ok) == (Outcome.STAYED_SILENT, True)
    call.pass_time(10)
    assert call.sent_ids() == [10, 20], "a silence is not followed by another"


def test_a_user_who_speaks_is_not_silent() -> None:
    call = Call(silence=Silence.DOTS, silence_after_s=2)
    call.say("hello")
    call.answer(10, "Hi.", is_final=True)
    call.pass_time(1)
    call.say("And?")
    call.pass_time(1.5)
    assert call.sent_ids() == [10, 20]


def test_a_silence_without_any_answer_is_a_fault() -> None:
    call = Call(silence=Silence.DOT, silence_after_s=2)
    call.say("hello")
    call.answer(10, "Hi.", is_final=True)
    call.pass_time(9)
    assert not call.verdict().is_ok


# --- other habits ---------------------------------------------------------------------------------------------------


def test_a_growing_utterance_comes_in_parts_within_a_second() -> None:
    call = Call(growing_parts=4)
    call.say("one two three four five")
    call.pass_time(1)
    said = [message["user_transcript"][-1]["content"] for message in call.sent()]
    assert said == ["one", "one two", "one two three", "one two three four", "one two three four five"]
    call.answer(50, "Yes.", is_final=True)
    assert call.verdict().is_ok


def test_an_error_precedes_the_drop() -> None:
    call = Call(reset=Moment.AFTER_ANSWER, drop_error="over")
    call.say("hello")
    call.answer(10, "Hi.", is_final=True)
    call.pass_time(0)
    error, _ = call.out[-2:]
    assert isinstance(error, Send)
    assert isinstance(error.message, str)
    assert json.loads(error.message) == {"type": "error", "message": "over"}


def test_a_caller_may_hang_up_by_a_drop() -> None:
    call = Call(goodbye=Goodbye.DROP)
    assert [type(action) for action in call.model.close(now=1.0)] == [Drop]


def test_last_words_and_close_are_one_packet() -> None:
    call = Call(goodbye=Goodbye.LAST_WORDS)
    transcript, close, closing = call.model.close(now=1.0)
    assert isinstance(transcript, Send)
    assert isinstance(close, Send)
    assert isinstance(closing, Close)
    assert (transcript.is_joined, close.is_joined) == (True, False)
    assert (json.loads(transcript.message)["type"], json.loads(close.message)["type"]) == ("user_transcript", "close")
    assert call.verdict().outcome is Outcome.HUNG_UP
