"""HdrHistogram's percentile distribution, in the text form that its plotters read."""

from __future__ import annotations

import math

from se_server.telemetry._histogram import Histogram

__all__ = ["percentile_distribution"]

TICKS_PER_HALF = 5
_BUCKETS, _SUB_BUCKETS = 22, 2048


def percentile_distribution(histogram: Histogram) -> str:
    """Return the distribution in milliseconds, finer towards 100%, in HdrHistogram's format."""
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n"]
    buckets, count = histogram.buckets(), histogram.count
    below, place, percent = 0, 0, 0.0
    while place < len(buckets):
        value_s, here = buckets[place]
        reached = below + here
        if 100.0 * reached / count < percent and reached < count:
            below, place = reached, place + 1
            continue
        share = reached / count if reached == count else percent / 100
        tail = "" if share >= 1 else f" {1 / (1 - share):14.2f}"
        lines.append(f"{1000 * value_s:12.3f} {share:2.12f} {reached:10d}{tail}")
        if reached == count:
            break
        # Take the same number of steps for each half of the remainder.
        half = 2.0 ** (math.floor(math.log2(100.0 / (100.0 - percent))) + 1)
        percent += 100.0 / (TICKS_PER_HALF * half)
    mean_s = histogram.mean_s
    variance = sum(here * (value_s - mean_s) ** 2 for value_s, here in buckets) / count if count else 0.0
    lines += [
        f"#[Mean    = {1000 * mean_s:12.3f}, StdDeviation   = {1000 * math.sqrt(variance):12.3f}]",
        f"#[Max     = {1000 * histogram.max_s:12.3f}, Total count    = {count:12d}]",
        f"#[Buckets = {_BUCKETS:12d}, SubBuckets     = {_SUB_BUCKETS:12d}]",
    ]
    return "\n".join(lines) + "\n"
