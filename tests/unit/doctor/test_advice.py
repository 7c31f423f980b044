"""What se-doctor says to do first."""

from __future__ import annotations

import pytest

from se_server.doctor.advice import _BY_GROUP, first_step
from se_server.doctor.catalogue import chosen
from se_server.doctor.results import Finding, Result, State


def result(name: str, group: str, state: State) -> Result:
    return Result(name, group, "", state, "", "why", 0.1)


def test_every_group_has_advice() -> None:
    assert set(_BY_GROUP) == {case.group for case in chosen(())}


def test_an_open_door_comes_first() -> None:
    found = [
        result("again", "The API asks again", State.FAIL),
        result("no-token", "Door", State.FAIL),
        result("question", "Conversation", State.PASS),
    ]
    assert first_step(found).startswith("First: no-token. Verify the token before anything else is done")
    assert first_step(found).endswith(" Then the other 1 case.")


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((State.PASS, State.PASS), "Nothing to do: every case passed."),
        ((State.PASS, State.WARNING), "Nothing failed. Look at b first."),
        ((State.NOT_TESTED, State.PASS), "Nothing failed. 1 case had no opportunity, as the lines above say: a."),
    ],
)
def test_without_a_failure_the_rest_is_named(states: tuple[State, State], said: str) -> None:
    results = [result(name, "Conversation", state) for name, state in zip("ab", states, strict=True)]
    assert first_step(results).startswith(said)


def test_a_fault_of_the_engine_comes_before_cases() -> None:
    finding = Finding("ws_url", State.FAIL, "it names another host", "change it with PATCH")
    assert first_step([result("a", "Door", State.FAIL), finding]) == "First: ws_url. Change it with PATCH."
