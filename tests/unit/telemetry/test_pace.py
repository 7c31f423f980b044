"""The pace of a conversation is exact for usual lengths, and bounded and fair beyond."""

from __future__ import annotations

import sys

import pytest

from se_server.telemetry.pace import SAMPLE, Pace


def paced(*times_s: float) -> Pace:
    pace = Pace()
    for time_s in times_s:
        pace.add(False)
        pace.add_first_chunk(time_s)
    return pace


def test_nothing_is_claimed_of_turns_without_text() -> None:
    pace = Pace()
    pace.add(True)
    assert (pace.turns, pace.interruptions, pace.median_s()) == (1, 1, None)


def test_the_median_of_a_usual_conversation_is_exact() -> None:
    assert paced(0.5, 0.25, 4.0).median_s() == 0.25 * 2
    assert paced(*[float(place) for place in range(SAMPLE, 0, -1)]).median_s() == SAMPLE // 2


def test_the_median_of_many_turns_is_near() -> None:
    """The median of a very long conversation is near and the slowest is exact."""
    pace = paced(*[float(place % 1000) for place in range(100_000)], 5000.0)
    assert pace.median_s() == pytest.approx(500, abs=200)  # three deviations of the median of so small a sample
    assert pace.slowest_s == 5000.0


def test_many_turns_take_no_more_memory() -> None:
    assert sys.getsizeof(paced(*[0.1] * 10_000)) == sys.getsizeof(Pace())
