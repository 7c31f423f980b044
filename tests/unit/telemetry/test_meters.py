"""Figures of metrics: a value lands in the bucket of its bound, and no figure is lost with a worker."""

from __future__ import annotations

import os
import signal

import pytest

from se_server.server.door import responses
from se_server.server.shared.scoreboard import Scoreboard
from se_server.telemetry._meters import CELLS, CODES, HISTOGRAM_NAMES, METERS_BYTES, REFUSALS, Meters
from se_server.telemetry.families import Distribution, open_conversations


def distribution(meters: Meters, name: str) -> Distribution:
    return Distribution.of(name, meters.cells())


@pytest.mark.parametrize("name", HISTOGRAM_NAMES)
def test_a_bound_belongs_to_its_own_bucket(name: str) -> None:
    bounds = distribution(Meters(), name).bounds
    assert bounds[1:] == pytest.approx([2 * bound for bound in bounds[:-1]])
    for place, bound in enumerate(bounds):
        meters = Meters()
        meters.record(name, bound)
        meters.record(name, bound + 2e-6)
        assert distribution(meters, name).counts[place : place + 2] == (1, 1)
        assert distribution(meters, name).total == pytest.approx(2 * bound, abs=1e-5)


def test_first_text_is_measured_to_82_seconds() -> None:
    bounds = distribution(Meters(), "first_text").bounds
    assert (bounds[0], bounds[-1]) == (0.01, 81.92)


@pytest.mark.parametrize(("value", "place"), [(-1.0, 0), (0.0, 0), (1e300, -1), (float("inf"), -1)])
def test_values_beyond_all_bounds_are_counted(value: float, place: int) -> None:
    meters = Meters()
    meters.record("first_text", value)
    found = distribution(meters, "first_text")
    assert (found.counts[place], found.count) == (1, 1)


def test_quantiles_lie_in_the_right_bucket() -> None:
    meters = Meters()
    for _ in range(90):
        meters.record("first_text", 0.15)
    for _ in range(10):
        meters.record("first_text", 3.0)
    found = distribution(meters, "first_text")
    median, worst = found.quantile(0.5), found.quantile(0.99)
    assert median is not None
    assert worst is not None
    assert 0.08 <= median <= 0.16
    assert 2.56 <= worst <= 5.12
    assert distribution(Meters(), "first_text").quantile(0.5) is None


def test_unknown_causes_and_codes_are_counted_together() -> None:
    meters = Meters()
    meters.closed("peer", 1000)
    meters.closed("peer", 4321)
    meters.closed("something new", None)
    meters.refused("something new")
    meters.count("conversations", 5)
    assert sum(meters.cells()) == 5 + 4
    assert open_conversations(meters.cells()) == 2


def test_memory_of_others_must_be_large_enough() -> None:
    memory = bytearray(METERS_BYTES)
    Meters(memory).count("turns")
    assert Meters(memory).cells()[1] == 1
    with pytest.raises(ValueError, match="need"):
        Meters(bytearray(METERS_BYTES - 8))


def test_every_refusal_of_the_door_is_known() -> None:
    made = [value for value in vars(responses).values() if isinstance(value, responses.Response)]
    made += responses.SATURATED.values()
    made += [responses.NOT_FOUND[0], responses.UPGRADE_REQUIRED[0]]
    assert {response.reason for response in made} - {""} <= set(REFUSALS)
    assert len(set(REFUSALS)) == len(REFUSALS)


def test_a_killed_worker_loses_no_figure() -> None:
    board = Scoreboard(2)
    slot = board.take(1, now_ns=7)
    assert slot is not None
    pid = os.fork()
    if pid == 0:
        meters = slot.counters().meters
        meters.count("conversations", 3)
        meters.count("turns", 5)
        meters.count("answered", 4)
        meters.closed("peer", CODES[0])
        meters.record("first_text", 0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    before = board.figures()[1]
    board.give_back(slot)
    after = board.figures()[1]
    assert all(late >= early for early, late in zip(before, after, strict=True))
    # Its two open conversations and its turn under way ended with it.
    assert open_conversations(before) == 2
    assert open_conversations(after) == 0
    assert sum(after) == sum(before) + 2 + 1
    again = board.take(2, now_ns=8)
    assert again is not None
    assert again.counters().meters.cells() == [0] * CELLS
    assert board.figures()[1] == after
