"""Durations in buckets: what is recorded comes back to three digits, however it was merged, copied or sent."""

from __future__ import annotations

import math
import pickle
import random

import orjson
import pytest

from se_server.load import Histogram
from se_server.telemetry._histogram import HISTOGRAM_BYTES


def of(*durations_s: float) -> Histogram:
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.record(duration_s)
    return histogram


def test_empty_histogram_is_all_zeros() -> None:
    empty = Histogram()
    assert (empty.count, empty.max_s, empty.mean_s, empty.percentile(99), empty.buckets()) == (0, 0, 0, 0, [])


@pytest.mark.parametrize("duration_s", [1e-6, 2.047e-3, 2.048e-3, 0.0123456, 0.9999, 1.0, 59.87, 3600.0])
def test_a_duration_comes_back_to_three_digits(duration_s: float) -> None:
    histogram = of(duration_s, 3600.0)
    assert histogram.percentile(50) == pytest.approx(duration_s, rel=1e-3, abs=1e-6)
    assert histogram.percentile(50) >= duration_s - 1e-9  # never better than it was


def test_percentiles_are_those_of_a_sorted_list() -> None:
    rng = random.Random(3)
    durations_s = [math.exp(rng.uniform(math.log(2e-5), math.log(30.0))) for _ in range(20_000)]
    histogram = of(*durations_s)
    durations_s.sort()
    for percent in (0, 1, 50, 90, 99, 99.9, 99.99, 100):
        rank = max(1, math.ceil(round(percent / 100 * len(durations_s), 6)))
        assert histogram.percentile(percent) == pytest.approx(durations_s[rank - 1], rel=1e-3, abs=1e-6)
    assert histogram.max_s == pytest.approx(durations_s[-1], abs=1e-6)
    assert histogram.mean_s == pytest.approx(sum(durations_s) / len(durations_s), rel=1e-3)
    assert sum(count for _, count in histogram.buckets()) == histogram.count == len(durations_s)


def test_values_out_of_range_count_at_the_ends() -> None:
    histogram = of(-1.0, 0.0, 1e9)
    assert (histogram.percentile(0), histogram.max_s, histogram.count) == (0.0, 3600.0, 3)


def test_percentile_beyond_100_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        of(1.0).percentile(101)


def test_merged_histograms_are_one() -> None:
    one, other = of(0.001, 0.5), of(0.25, 7.0)
    one.merge(other)
    assert one == of(0.001, 0.25, 0.5, 7.0)
    assert other.count == 2


def test_what_came_since_a_copy_is_told_apart() -> None:
    histogram = of(0.001, 9.0)
    before = histogram.copy()
    histogram.record(0.25)
    recent = histogram.since(before)
    assert (recent.count, before.count) == (1, 2)
    assert recent.max_s == pytest.approx(0.25, rel=1e-3)
    assert histogram.since(histogram).max_s == 0


def test_histogram_survives_pickle_and_json() -> None:
    histogram = of(0.001, 0.25, 0.25)
    assert pickle.loads(pickle.dumps(histogram)) == histogram
    assert Histogram.from_dict(orjson.loads(orjson.dumps(histogram.to_dict()))) == histogram


def test_foreign_values_are_refused() -> None:
    with pytest.raises(ValueError, match="bucket"):
        Histogram.from_dict({"max_us": 1, "sum_us": 1, "counts": [[10**6, 1]]})


def test_all_views_see_a_shared_histogram() -> None:
    """Histogram in shared memory is seen by all its views."""
    memory = bytearray(HISTOGRAM_BYTES)
    Histogram(memory).record(0.25)
    assert Histogram(memory) == of(0.25)
    with pytest.raises(ValueError, match="bytes"):
        Histogram(bytearray(64))
