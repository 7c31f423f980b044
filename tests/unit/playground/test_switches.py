"""The switches of the page: every habit has one, and their values are those of the simulator."""

from __future__ import annotations

import dataclasses

import pytest

from se_server.playground.switches import habits_of, presets, switches
from se_server.simulator.habits import Habits


def test_every_habit_has_a_switch() -> None:
    fields = {field["name"] for switch in switches() for field in switch["fields"]}
    assert fields == {row.name for row in dataclasses.fields(Habits)}


def test_every_switch_alone_is_a_valid_set() -> None:
    for switch in switches():
        given = {field["name"]: field["on"] for field in switch["fields"] if field["on"] is not None}
        assert habits_of(given) != Habits(), switch["title"]


def test_presets_are_the_simulators_own() -> None:
    assert habits_of(presets()["live"]) == Habits.live()
    assert habits_of(presets()["hostile"]) == Habits.hostile()


@pytest.mark.parametrize(
    "given", [None, [], {"resend": 1}, {"resend_after_s": -1}, {"resend_after_s": "soon"}, {"chance": 2}]
)
def test_wrong_habits_are_refused_by_name(given: object) -> None:
    with pytest.raises(ValueError, match=r"habit|resend|chance"):
        habits_of(given)
