"""The habits of the API under a manual clock, and the judge's verdicts on faulty servers."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from se_server.simulator.calls import Action, Close, Drop, Reconnect, Reset, Send
from se_server.simulator.habits import Habits, Malformed, Moment, Wording
from se_server.simulator.judge import Outcome, Verdict, judge, sum_up
from se_server.simulator.model import GENERATION_FAILED, ApiModel


class Call:
    """A model under a manual clock, with the messages sent so far."""

    def __init__(self, **habits: Any) -> None:
        self.model = ApiModel("conv_1", habits=Habits(**habits), ids=itertools.count(10, 10))
        self.now = 0.0
        self.out: list[Action] = []
        self.did(self.model.connected(now=0.0))
        self.out.clear()

    def did(self, actions: list[Action]) -> None:
        self.out += actions

    def say(self, text: str) -> None:
        self.did(self.model.say(text, now=self.now))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and carry out each action when it is due."""
        end = self.now + seconds
        while (due := self.model.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.did(self.model.tick(self.now))
        self.now = end

    def answer(self, event_id: int, content: str, is_final: bool = False) -> None:
        message = {"type": "agent_response", "content": content, "event_id": event_id, "is_final": is_final}
        self.model.receive(json.dumps(message), now=self.now)

    def sent_ids(self) -> list[int]:
        return [message["event_id"] for message in self.sent() if message["type"] == "user_transcript"]

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(action.message) for action in self.out if isinstance(action, Send)]

    def verdict(self, index: int = -1) -> Verdict:
        return judge(self.model.turns[index], self.model, now=self.now)


def said_in(message: dict[str, Any]) -> str:
    text = message["user_transcript"][-1]["content"]
    assert isinstance(text, str)
    return text


# --- asking again ---------------------------------------------------------------------------------------------------


def test_three_unanswered_tries_end_the_conversation() -> None:
    call = Call(resend_after_s=4.0)
    call.say("hello")
    call.pass_time(3.9)
    assert call.sent_ids() == [10]
    call.pass_time(0.2)
    assert call.sent_ids() == [10, 10]
    call.pass_time(4)
    assert call.sent_ids() == [10, 10, 10]
    assert len({json.dumps(message) for message in call.sent()}) == 1
    call.pass_time(4)
    *_, error, close = call.sent()
    assert error == {"type": "error", "message": GENERATION_FAILED}
    assert close == {"type": "close"}
    assert isinstance(call.out[-1], Close)
    assert call.model.is_closed
    assert call.model.end_reason == GENERATION_FAILED
    verdict = call.verdict()
    assert verdict.outcome is Outcome.SILENT
    assert verdict.reason == "no answer came within 12 s, asked 3 times: the API ended the conversation"
    assert not verdict.is_ok
    call.pass_time(100)
    assert len(call.sent()) == 5


def test_a_new_connection_restarts_the_tries() -> None:
    call = Call(resend_after_s=4.0, reset=Moment.BEFORE_ANSWER, reconnect=True, reconnect_after_s=0.1)
    call.say("hello")
    call.pass_time(0.1)
    call.out.clear()
    call.did(call.model.connected(now=call.now))
    began = call.now
    call.pass_time(11.9)
    assert call.sent_ids() == [10, 10, 10]
    assert not call.model.is_closed
    call.pass_time(0.2)
    assert call.model.end_reason == GENERATION_FAILED
    assert call.model.turns[-1].interrupted_at == began + 12


@pytest.mark.parametrize("content", ["Hi", ""])
def test_any_response_stops_the_asking(content: str) -> None:
    call = Call(resend_after_s=4.0)
    call.say("hello")
    call.pass_time(3)
    call.answer(10, content)
    call.pass_time(60)
    assert call.sent_ids() == [10]
    assert not call.model.is_closed


def test_a_superseded_utterance_is_not_repeated() -> None:
    call = Call(resend_after_s=4.0)
    call.say("hello")
    call.pass_time(1)
    call.say("never mind")
    call.pass_time(3.5)
    assert call.sent_ids() == [10, 20]


def test_an_answer_to_the_second_try_is_fine() -> None:
    call = Call(resend_after_s=4.0)
    call.say("hello")
    call.pass_time(4.5)
    call.answer(10, "Hi", True)
    verdict = call.verdict()
    assert (verdict.outcome, verdict.tries, verdict.first_word_s, verdict.is_ok) == (Outcome.HEARD, 2, 4.5, True)


# --- several ids ----------------------------------------------------------------------------------------------------


def test_one_pause_gets_three_ids() -> None:
    call = Call(extra_ids=2, extra_id_after_s=1.0)
    call.say("Hello, over there!")
    call.pass_time(3)
    assert call.sent_ids() == [10, 20, 30]
    assert [said_in(message) for message in call.sent()] == [
        "hello over there",
        "Hello over there",
        "Hello, over there!",
    ]
    assert len(call.model.turns) == 1
    assert [len(message["user_transcript"]) for message in call.sent()] == [1, 1, 1]


def test_a_growing_transcript_ends_with_the_whole_text() -> None:
    call = Call(extra_ids=2, extra_id_after_s=1.0, wording=Wording.GROWING)
    call.say("one two three four five six")
    call.pass_time(3)
    assert [said_in(message) for message in call.sent()] == [
        "one two",
        "one two three four",
        "one two three four five six",
    ]


def test_only_the_newest_ids_answer_is_heard() -> None:
    call = Call(extra_ids=1, extra_id_after_s=1.0)
    call.say("Hello.")
    call.pass_time(0.5)
    call.answer(10, "Hi the", False)
    call.pass_time(1)
    call.answer(10, "re!")  # sent before the new id arrived
    call.answer(20, "Hi there!", True)
    verdict = call.verdict()
    assert (verdict.heard, verdict.event_id, verdict.event_ids) == ("Hi there!", 20, (10, 20))
    assert verdict.is_billed_twice
    assert verdict.late_chars == len("Hi there!")
    assert verdict.wrong_ids == ()
    assert verdict.is_ok


def test_a_turn_lasts_until_its_last_id() -> None:
    call = Call(extra_ids=1, extra_id_after_s=1.0)
    call.say("Hello.")
    call.answer(10, "Hi!", True)
    assert call.model.is_answering
    call.pass_time(1)
    assert call.sent_ids() == [10, 20]
    call.answer(20, "Hi!", True)
    assert not call.model.is_answering
    assert call.verdict().heard == "Hi!"
    assert not call.verdict().is_heard_twice


def test_speaking_again_cancels_further_ids() -> None:
    call = Call(extra_ids=2, extra_id_after_s=1.0)
    call.say("Hello there.")
    call.say("No, wait.")
    call.pass_time(1.1)
    assert [said_in(message) for message in call.sent()][:3] == ["hello there", "no wait", "No wait"]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (Moment.BEFORE_ANSWER, [10, 20, 10]),
        (Moment.MID_ANSWER, [10, 20, 10]),
        (Moment.AFTER_ANSWER, [10, 20, 10]),
    ],
)
def test_the_older_id_comes_again_at_its_moment(moment: Moment, expected: list[int]) -> None:
    call = Call(resend_older=moment)
    call.say("one")
    call.answer(10, "First.", True)
    call.pass_time(1)
    first = call.sent()[0]
    call.say("two")
    seen = {}
    call.pass_time(0.1)
    seen[Moment.BEFORE_ANSWER] = call.sent_ids()
    call.answer(20, "Sec")
    call.pass_time(0.1)
    seen[Moment.MID_ANSWER] = call.sent_ids()
    call.answer(20, "ond.", True)
    call.pass_time(0.1)
    seen[Moment.AFTER_ANSWER] = call.sent_ids()
    assert seen[moment] == expected
    assert call.sent()[-1] == first
    earlier = {Moment.MID_ANSWER: Moment.BEFORE_ANSWER, Moment.AFTER_ANSWER: Moment.MID_ANSWER}.get(moment)
    assert earlier is None or seen[earlier] == [10, 20]


def test_an_earlier_connections_id_is_not_repeated() -> None:
    call = Call(resend_older=Moment.BEFORE_ANSWER)
    call.say("one")
    call.answer(10, "First.", True)
    call.pass_time(1)
    call.model.disconnected(now=call.now)
    call.did(call.model.connected(now=call.now))
    call.say("two")
    call.pass_time(1)
    assert call.sent_ids() == [10, 20]


def test_an_empty_final_under_an_older_id_passes() -> None:
    call = Call(resend_older=Moment.MID_ANSWER)
    call.say("one")
    call.answer(10, "First.", True)
    call.say("two")
    call.answer(20, "Second.")
    call.pass_time(0.1)
    call.answer(10, "", True)
    call.answer(20, "", True)
    assert sum_up([call.verdict(0), call.verdict(1)], call.model).is_ok


def test_an_answer_under_an_older_id_is_silence() -> None:
    call = Call(resend_older=Moment.BEFORE_ANSWER)
    call.say("one")
    call.answer(10, "First.", True)
    call.say("two")
    call.pass_time(0.1)
    call.answer(10, "First again.", True)
    call.pass_time(5)
    call.model.lost(now=call.now)
    verdict = call.verdict()
    assert verdict.outcome is Outcome.SILENT
    assert verdict.reason == "the answer came under id 10, which was outdated"
    assert verdict.wrong_ids == ((10, "First again."),)
    assert call.verdict(0).is_billed_twice


def test_late_text_differs_from_text_under_outdated_ids() -> None:
    """Text that crosses a newer transcript is late; text after that transcript's answer began is wrong."""
    call = Call()
    call.say("one")
    call.answer(10, "A ")
    call.say("two")
    call.answer(10, "late ")
    call.answer(20, "Two")
    assert call.verdict().is_ok is False  # it is not complete yet
    call.answer(20, ".", True)
    assert call.verdict().is_ok
    call.answer(10, "wrong")
    verdict = call.verdict()
    assert verdict.wrong_ids == ((10, "wrong"),)
    assert verdict.late_chars == len("late ")
    assert not verdict.is_ok


def test_an_answer_to_a_repetition_is_heard_twice() -> None:
    call = Call(resend_after_s=4.0)
    call.say("hello")
    call.pass_time(4.1)
    for _ in range(2):  # the server treated the second try as a second question
        call.answer(10, "Hi!")
        call.answer(10, "", True)
    verdict = call.verdict()
    assert verdict.is_heard_twice
    assert verdict.is_billed_twice
    assert not verdict.is_ok


def test_two_different_answers_in_one_turn_pass() -> None:
    call = Call()
    call.say("hello")
    for text in ("One moment. ", "Here you are."):
        call.answer(10, text)
        call.answer(10, "", True)
    assert call.verdict().is_ok
    assert call.verdict().heard == "One moment. Here you are."


# --- speaking into answers ------------------------------------------------------------------------------------------


def test_the_user_interrupts_after_a_number_of_characters() -> None:
    call = Call(interrupt_after_chars=10, interruption="Stop.")
    call.say("a story")
    call.answer(10, "Once upon")
    call.pass_time(1)
    assert call.sent_ids() == [10]
    call.answer(10, " a time")
    call.pass_time(0)
    assert call.sent_ids() == [10, 20]
    assert said_in(call.sent()[1]) == "Stop."
    assert call.model.turns[-1].is_habit
    assert call.verdict(0).outcome is Outcome.INTERRUPTED
    call.answer(20, "As you like, I stop.", True)
    call.pass_time(100)
    assert len(call.model.turns) == 2, "nobody interrupts the answer to an interruption"


def test_the_user_interrupts_after_some_seconds() -> None:
    call = Call(interrupt_after_s=2.0)
    call.say("a story")
    call.pass_time(2)
    assert len(call.model.turns) == 2
    assert call.verdict(0).outcome is Outcome.SUPERSEDED
    assert call.verdict(0).is_ok


def test_a_complete_answer_is_interrupted_by_nobody() -> None:
    call = Call(interrupt_after_s=2.0, interrupt_after_chars=5)
    call.say("a story")
    call.answer(10, "Once upon a time, the end.", True)
    call.pass_time(10)
    assert len(call.model.turns) == 1


# --- the connection -------------------------------------------------------------------------------------------------


def test_any_traffic_keeps_a_connection_from_being_idle() -> None:
    call = Call(idle_drop_s=60.0)
    call.pass_time(50)
    call.model.traffic(now=call.now)  # a WebSocket ping of the server
    call.pass_time(59)
    assert call.out == []
    call.answer(99, "a violation is traffic, too")
    call.pass_time(59)
    call.did(call.model.ping(now=call.now))
    call.pass_time(59)
    assert len(call.out) == 1
    call.pass_time(1)
    assert isinstance(call.out[-1], Drop)
    assert "60 s" in call.model.end_reason
    assert call.model.is_closed


@pytest.mark.parametrize("moment", [Moment.BEFORE_ANSWER, Moment.MID_ANSWER, Moment.AFTER_ANSWER])
def test_a_reset_with_reconnect_continues(moment: Moment) -> None:
    call = Call(reset=moment, reconnect=True, reconnect_after_s=0.25)
    call.say("hello")
    call.pass_time(0.1)
    if moment is not Moment.BEFORE_ANSWER:
        assert len(call.out) == 1
        call.answer(10, "Hi ", False)
        call.pass_time(0.1)
    if moment is Moment.AFTER_ANSWER:
        assert len(call.out) == 1
        call.answer(10, "there.", True)
        call.pass_time(0.1)
    reset, reconnect = call.out[1:]
    assert isinstance(reset, Reset)
    assert isinstance(reconnect, Reconnect)
    assert reconnect.after_s == 0.25
    assert not call.model.is_connected
    call.out.clear()
    call.pass_time(0.25)
    call.did(call.model.connected(now=call.now))
    init, *again = call.sent()
    assert init == {"type": "init", "conversation_id": "conv_1"}
    # Only a question without any answer is asked again, under its own id.
    assert [message["event_id"] for message in again] == ([10] if moment is Moment.BEFORE_ANSWER else [])
    assert (
        call.verdict().outcome
        is {
            Moment.BEFORE_ANSWER: Outcome.WAITING,
            Moment.MID_ANSWER: Outcome.HUNG_UP,
            Moment.AFTER_ANSWER: Outcome.HEARD,
        }[moment]
    )


def test_a_reset_without_a_reconnect_ends_the_conversation() -> None:
    call = Call(reset=Moment.BEFORE_ANSWER)
    call.say("hello")
    call.pass_time(0)
    assert isinstance(call.out[-1], Reset)
    assert call.model.is_closed
    assert call.verdict().outcome is Outcome.HUNG_UP
    assert call.model.next_due() is None


def test_words_without_a_connection_wait_for_the_next() -> None:
    call = Call(reconnect=True)
    call.say("one")
    call.answer(10, "First.", True)
    call.pass_time(0)
    assert isinstance(call.out[-2], Drop)
    call.out.clear()
    call.say("two")
    assert call.out == []
    call.pass_time(1)
    call.did(call.model.connected(now=call.now))
    assert call.sent_ids() == [20]
    assert [entry["content"] for entry in call.sent()[1]["user_transcript"]] == ["one", "First.", "two"]


def test_a_reconnect_asks_the_last_wording() -> None:
    call = Call(extra_ids=1, wording=Wording.GROWING, reset=Moment.BEFORE_ANSWER, reconnect=True)
    call.say("one two three")
    call.pass_time(0)
    call.did(call.model.connected(now=call.now))
    assert said_in(call.sent()[-1]) == "one two three"
    assert call.sent_ids() == [10, 20]


def test_a_connection_lost_by_the_server_counts() -> None:
    for text, outcome in (("", Outcome.SILENT), ("Hi", Outcome.CUT_OFF)):
        call = Call()
        call.say("hello")
        if text:
            call.answer(10, text)
        call.pass_time(1)
        call.model.lost(now=call.now)
        verdict = judge(call.model.turns[0], call.model, now=call.now, ended="the connection was lost")
        assert verdict.outcome is outcome
        assert "the connection was lost" in verdict.reason
        assert not verdict.is_ok


def test_an_empty_answer_is_silence() -> None:
    call = Call()
    call.say("hello")
    call.answer(10, "", True)
    assert call.verdict().outcome is Outcome.SILENT
    assert "empty" in call.verdict().reason


# --- malformed messages ---------------------------------------------------------------------------------------------


def test_malformed_messages_go_out_before_the_transcript() -> None:
    call = Call(malformed=(Malformed.NO_JSON, Malformed.NOT_UTF8, Malformed.UNKNOWN_TYPE))
    call.say("hello")
    *malformed, transcript = [action.message for action in call.out if isinstance(action, Send)]
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(malformed[0])
    assert isinstance(malformed[1], bytes)
    with pytest.raises(UnicodeDecodeError):
        malformed[1].decode()
    assert json.loads(malformed[2])["type"] not in ("init", "user_transcript", "ping", "close", "error")
    assert json.loads(transcript)["type"] == "user_transcript"


def test_a_bad_entry_stays_in_the_history() -> None:
    call = Call(malformed=(Malformed.BAD_ENTRY,), chance=1.0)
    call.say("hello")
    call.answer(10, "Hi.", True)
    call.say("bye")
    entries = call.sent()[-1]["user_transcript"]
    assert [entry["content"] for entry in entries] == [None, "hello", "Hi.", None, "bye"]
    assert [entry["content"] for entry in call.model.history] == ["hello", "Hi.", "bye"]


# --- replaying ------------------------------------------------------------------------------------------------------


def test_a_replay_has_the_recorded_turns() -> None:
    habits = {"resend_after_s": 4.0, "extra_ids": 1, "interrupt_after_chars": 5}
    recorded, replayed = Call(**habits), Call()

    def both(event_id: int, text: str, is_final: bool = False) -> None:
        for call in (recorded, replayed):
            call.answer(event_id, text, is_final)

    def replay() -> None:
        for action in recorded.out:
            assert isinstance(action, Send)
            replayed.did(replayed.model.replay(action.message, now=recorded.now))
        recorded.out.clear()

    recorded.say("Hello there.")
    recorded.pass_time(4.6)  # both ids, and a repetition of the second
    replay()
    both(20, "Hi there!")
    recorded.pass_time(0)
    replay()
    both(30, "Yes?", True)
    recorded.did(recorded.model.close(now=recorded.now))
    recorded.out.pop()
    replay()
    for one, other in zip(recorded.model.turns, replayed.model.turns, strict=True):
        assert (one.said, one.heard, one.is_final) == (other.said, other.heard, other.is_final)
        assert [(ask.event_id, len(ask.sent_at)) for ask in one.asks] == [
            (ask.event_id, len(ask.sent_at)) for ask in other.asks
        ]
    assert replayed.model.is_closed
