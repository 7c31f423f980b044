"""The API's side of a conversation, without a socket."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from se_server.simulator.calls import Action, Close, Discarded, Heard, Pong, Send, Violation
from se_server.simulator.model import ApiModel, growing_ids


@pytest.fixture
def model() -> ApiModel:
    model = ApiModel("conv_1", ids=iter([3, 26, 45]))
    model.connected(now=0.0)
    return model


def sent(actions: list[Action]) -> str:
    """Return the only message among the actions."""
    (message,) = [action.message for action in actions if isinstance(action, Send)]
    assert isinstance(message, str)
    return message


def answer(event_id: object, content: object, is_final: object = False) -> str:
    return json.dumps({"type": "agent_response", "content": content, "event_id": event_id, "is_final": is_final})


def history_of(actions: list[Action]) -> list[tuple[str, str]]:
    return [(entry["role"], entry["content"]) for entry in json.loads(sent(actions))["user_transcript"]]


def test_messages_have_the_live_apis_blanks(model: ApiModel) -> None:
    assert model.connected(now=0.0) == [Send('{"type": "init", "conversation_id": "conv_1"}')]
    assert sent(model.say("hé", now=0.0)) == (
        '{"type": "user_transcript", "user_transcript": [{"role": "user", "content": "h\\u00e9"}], "event_id": 3}'
    )
    assert model.ping(now=0.5) == [Send('{"type": "ping"}')]
    assert model.close(now=1.0) == [Send('{"type": "close"}'), Close(1000)]


def test_history_grows_by_what_was_heard(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    model.receive(answer(3, "Good "), now=0.5)
    model.receive(answer(3, "day."), now=0.6)
    model.receive(answer(3, "", True), now=0.7)
    assert history_of(model.say("how are you", now=2.0)) == [
        ("user", "hello"),
        ("agent", "Good day."),
        ("user", "how are you"),
    ]


def test_the_history_has_only_the_heard_part(model: ApiModel) -> None:
    model.say("a story", now=0.0)
    model.receive(answer(3, "Once upon "), now=0.5)
    assert history_of(model.say("stop", now=1.0))[1] == ("agent", "Once upon ")
    assert model.turns[0].is_interrupted
    assert model.turns[0].interrupted_at == 1.0
    assert isinstance(model.receive(answer(3, "a time"), now=1.1), Discarded)
    model.receive(answer(26, "Yes?", True), now=1.2)
    assert history_of(model.say("go on", now=2.0)) == [
        ("user", "a story"),
        ("agent", "Once upon "),
        ("user", "stop"),
        ("agent", "Yes?"),
        ("user", "go on"),
    ]


def test_an_answer_nobody_heard_is_no_entry(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    assert history_of(model.say("are you there", now=1.0)) == [("user", "hello"), ("user", "are you there")]


def test_a_complete_answer_is_not_interrupted(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    model.receive(answer(3, "Good day.", True), now=0.5)
    model.say("bye", now=1.0)
    assert not model.turns[0].is_interrupted


def test_a_turn_keeps_what_was_heard_and_when(model: ApiModel) -> None:
    model.say("hello", now=10.0)
    turn = model.turn
    assert turn is not None
    assert turn.is_answering
    assert model.receive(answer(3, "Good "), now=10.5) == Heard(turn, "Good ", False)
    model.receive(answer(3, "day."), now=11.0)
    assert model.receive(answer(3, "", True), now=12.0) == Heard(turn, "", True)
    assert (turn.event_id, turn.heard, turn.chunks) == (3, "Good day.", ["Good ", "day."])
    assert (turn.said_at, turn.first_chunk_at, turn.final_at) == (10.0, 10.5, 12.0)
    assert not turn.is_answering


def test_an_empty_final_leaves_no_first_chunk(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    model.receive(answer(3, "", True), now=1.0)
    assert model.turns[0].first_chunk_at is None
    assert model.turns[0].is_final


def test_a_second_answer_is_heard_too(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    for text, is_final in [("One. ", False), ("", True), ("Two.", False), ("", True)]:
        assert isinstance(model.receive(answer(3, text, is_final), now=1.0), Heard)
    assert model.turns[0].heard == "One. Two."


def test_outdated_answers_are_discarded_and_counted(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    model.say("hello again", now=1.0)
    assert model.receive(answer(3, "late"), now=1.5) == Discarded(3, "late", "outdated event_id")
    assert model.discarded == 1
    assert model.turns[0].heard == model.turns[1].heard == ""


def test_nothing_is_heard_after_close(model: ApiModel) -> None:
    model.say("hello", now=0.0)
    model.close(now=1.0)
    assert isinstance(model.receive(answer(3, "late"), now=1.5), Discarded)
    assert model.turns[0].is_interrupted


def test_a_pong_answers_a_ping(model: ApiModel) -> None:
    model.ping(now=0.0)
    assert model.receive(b'{"type":"pong"}', now=0.0) == Pong()
    assert isinstance(model.receive(b'{"type":"pong"}', now=0.0), Violation)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff", "not UTF-8"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "unknown message type"),
        ('{"type": "speak"}', "unknown message type 'speak'"),
        (answer(3, None), "string as content"),
        (answer("3", "x"), "number as event_id"),
        (answer(None, "x"), "number as event_id"),
        (answer(True, "x"), "number as event_id"),
        (answer(3, "x", 1), "is_final"),
        (answer(4, "x"), "no transcript had"),
    ],
)
def test_a_violation_is_reported_and_not_heard(model: ApiModel, raw: str | bytes, reason: str) -> None:
    model.say("hello", now=0.0)
    event = model.receive(raw, now=1.0)
    assert isinstance(event, Violation)
    assert reason in event.reason
    assert event.raw == raw
    assert model.violations == 1
    assert model.turns[0].heard == ""


def test_ids_grow_and_repeat_for_a_conversation() -> None:
    ids = list(itertools.islice(growing_ids("conv_1"), 200))
    gaps = {later - earlier for earlier, later in itertools.pairwise(ids)}
    assert min(gaps) >= 1
    assert len(gaps) > 5
    assert ids == list(itertools.islice(growing_ids("conv_1"), 200))
    assert ids != list(itertools.islice(growing_ids("conv_2"), 200))


def test_default_ids_are_the_models_own() -> None:
    model = ApiModel("conv_1")
    model.connected(now=0.0)
    messages: list[dict[str, Any]] = [json.loads(sent(model.say("x", now=0.0))) for _ in range(3)]
    assert [message["event_id"] for message in messages] == [turn.event_id for turn in model.turns]
