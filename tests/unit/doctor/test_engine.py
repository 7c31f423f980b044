"""The comparison of a stored engine with its server, and the record of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from se_server.doctor.engine import EngineFinding, compare
from se_server.doctor.record import read_record
from se_server.doctor.results import State

GOOD: dict[str, Any] = {
    "speech_engine_id": "seng_1",
    "speech_engine": {"ws_url": "wss://agent.example.com/ws", "request_headers": {"X-Shop": "7"}},
    "tts": {"model_id": "eleven_flash_v2"},
    "language": "en",
    "cascade_timeout_seconds": 4.0,
    "overrides": {"first_message": True},
}


def compared(
    requires: dict[str, str] | None = None, first_word_s: float = 0.5, **changed: Any
) -> dict[str, EngineFinding]:
    found = compare({**GOOD, **changed}, requires=requires or {}, first_word_s=first_word_s)
    return {finding.name: finding for finding in found}


def test_a_good_engine_passes_everything() -> None:
    found = compared()
    assert list(found) == ["ws_url", "headers", "cascade timeout", "first message", "voice"]
    assert {finding.state for finding in found.values()} == {State.PASS}
    assert not any(finding.change or finding.call for finding in found.values())


@pytest.mark.parametrize(
    ("url", "state", "reason"),
    [
        (None, State.FAIL, "has no ws_url"),
        ("https://agent.example.com/ws", State.FAIL, "write wss://agent.example.com/ws"),
        ("agent.example.com/ws", State.FAIL, "has no scheme: write wss://agent.example.com/ws"),
        ("ws://agent.example.com/ws", State.FAIL, "begins with ws://"),
        ("wss://localhost/ws", State.FAIL, "private address"),
        ("wss://10.1.2.3:443/ws", State.FAIL, "private address"),
        ("wss://[::1]/ws", State.FAIL, "private address"),
        ("wss://agent.internal/ws", State.FAIL, "private address"),
        ("wss://abc.ngrok-free.app/ws", State.WARNING, "is a tunnel"),
        ("wss://shop.vercel.app/api/ws", State.WARNING, "may not pass WebSocket upgrades"),
        ("wss://notvercel.app/ws", State.PASS, ""),
        ("wss://agent.example.com/ws?secret=1", State.PASS, ""),
    ],
)
def test_an_address_that_elevenlabs_cannot_use(url: str | None, state: State, reason: str) -> None:
    finding = compared(speech_engine={"ws_url": url})["ws_url"]
    assert finding.state is state
    assert reason in finding.why
    assert "secret=1" not in finding.why
    assert finding.change is None


def test_an_address_at_the_wrong_level_is_named() -> None:
    assert "wrong level of the body" in compared(speech_engine={}, ws_url="wss://agent.example.com/ws")["ws_url"].why


def test_headers_that_the_engine_does_not_send() -> None:
    finding = compared(requires={"X-Door": "open sesame"})["headers"]
    assert finding.state is State.FAIL
    assert "does not send X-Door" in finding.why
    assert "secret_id" in finding.call
    assert "sesame" not in finding.why + finding.call + finding.way_out


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({"x-door": "7"}, State.PASS),
        ({"X-DOOR": {"secret_id": "s_1"}}, State.PASS),
        ({"X-Door": {"variable_name": "door"}}, State.PASS),
        ({"X-Door": "8"}, State.FAIL),
        ({"X-Door": "7", "X-Auth-Token": "abc"}, State.WARNING),
        (None, State.FAIL),
    ],
)
def test_headers_are_compared_by_name_and_value(headers: Any, state: State) -> None:
    engine = {"ws_url": "wss://agent.example.com/ws", "request_headers": headers}
    assert compared(requires={"X-Door": "7"}, speech_engine=engine)["headers"].state is state


@pytest.mark.parametrize(
    ("first_word_s", "timeout_s", "state", "better_s"),
    [
        (1.0, 4, State.PASS, None),
        (3.0, 4, State.WARNING, 6),
        (5.0, 4, State.FAIL, 10),
        (14.0, 4, State.FAIL, 15),
        (16.0, 15, State.FAIL, None),
        (0.0, 4, State.NOT_TESTED, None),
        (2.5, 2, State.FAIL, 5),
        (0.5, 2, State.WARNING, None),  # the blank of --hold-after-s would come too late
    ],
)
def test_the_first_word_against_the_cascade_timeout(
    first_word_s: float, timeout_s: float, state: State, better_s: int | None
) -> None:
    finding = compared(first_word_s=first_word_s, cascade_timeout_seconds=timeout_s)["cascade timeout"]
    assert finding.state is state
    fields = None if finding.change is None else finding.change.fields
    assert fields == (None if better_s is None else {"cascade_timeout_seconds": better_s})


def test_the_first_message_keeps_other_overrides() -> None:
    finding = compared(overrides={"agent": {"language": True}, "first_message": False})["first message"]
    assert finding.state is State.WARNING
    assert finding.change is not None
    assert finding.change.fields == {"overrides": {"agent": {"language": True}, "first_message": True}}


@pytest.mark.parametrize(
    ("model", "language", "state", "better"),
    [
        ("eleven_flash_v2_5", "en", State.FAIL, "'eleven_flash_v2'"),
        ("eleven_turbo_v2_5", "en-US", State.FAIL, "'eleven_turbo_v2'"),
        ("eleven_flash_v2", "de", State.FAIL, "'eleven_flash_v2_5'"),
        ("eleven_flash_v2_5", "de", State.PASS, ""),
        ("eleven_v4", "en", State.PASS, ""),
        (None, "en", State.NOT_TESTED, ""),
    ],
)
def test_models_that_a_language_does_not_have(model: str | None, language: str, state: State, better: str) -> None:
    finding = compared(tts={"model_id": model}, language=language)["voice"]
    assert finding.state is state
    assert better in finding.call
    assert finding.change is None, "another model sounds different: that is not for --fix"


@pytest.mark.parametrize("engine", [{}, dict.fromkeys(GOOD), {name: [] for name in GOOD}])
def test_settings_of_another_form_are_no_error(engine: dict[str, Any]) -> None:
    assert [finding.name for finding in compare(engine, requires={}, first_word_s=1.0)]


# --- records --------------------------------------------------------------------------------------------------------


def test_a_failed_generation_is_explained() -> None:
    record = read_record(
        {
            "conversation_id": "conv_1",
            "status": "failed",
            "transcript": [
                {"role": "agent", "message": "Hi.", "time_in_call_secs": 0},
                {"role": "user", "message": "How late is it?", "time_in_call_secs": 3},
            ],
            "metadata": {
                "call_duration_secs": 15,
                "termination_reason": "Speech Engine generation failed",
                "error": {"code": 1011, "reason": "no answer"},
            },
        }
    )
    assert "three tries" in record.advice
    assert record.error == "1011 no answer"
    assert record.last_gap_s == 12


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Client disconnected: 1000", "hung up"),
        ("Conversation exceeded max duration", "max_duration_seconds"),
        ("Ended due to silence", "silence_end_call_timeout"),
        ("Something new", ""),
    ],
)
def test_reasons_of_the_api_have_advice(reason: str, words: str) -> None:
    record = read_record({"metadata": {"termination_reason": reason}})
    assert record.reason == reason
    assert words in record.advice
    assert bool(record.advice) is bool(words)


@pytest.mark.parametrize(
    "record", [{}, {"metadata": None, "transcript": None}, {"metadata": [], "transcript": [1, {}]}]
)
def test_records_of_another_form_are_no_error(record: dict[str, Any]) -> None:
    assert read_record(record).reason == ""
