"""The JSON of the page: figures of now, and of the last hour."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from se_server.server.observer.history import COUNTED, INTERVAL_S, SAMPLES, History, Sample
from se_server.telemetry.families import OUTCOMES, Distribution, Reading


def overview(reading: Reading, history: History, now_s: float) -> dict[str, Any]:
    """Return the figures of now.

    Args:
        now_s: seconds since 1970.
    """
    return {
        "now_s": round(now_s, 3),
        "version": reading.version,
        "started_at_s": round(reading.started_at_s, 3),
        "state": "draining" if reading.draining else ("serving" if reading.workers else "starting"),
        "conversations": reading.conversations,
        "answering": min(reading.answering, reading.conversations),
        "capacity": reading.capacity,
        "totals": {
            "conversations": reading.count("conversations"),
            "turns": {name: reading.count(name) for name in OUTCOMES},
            "fillers": reading.counters["first_words_sent"],
            "failure_texts": reading.counters["failure_texts_sent"],
            "late_texts": reading.counters["late_texts"],
            "wasted_characters": reading.count("wasted_by_interruption") + reading.count("wasted_by_end"),
            "tokens": [reading.count("input_tokens"), reading.count("output_tokens")],
        },
        "refusals": reading.refusals(),
        "restarts": reading.restarts(),
        "first_text": _quantiles(history.recent("first_text", reading)),
        "handshake": _quantiles(history.recent("handshake", reading)),
        "yield": _quantiles(history.recent("yield", reading)),
        "workers": [asdict(worker) for worker in reading.workers],
    }


def hour(history: History) -> dict[str, Any]:
    """Return the samples of the last hour."""
    return {
        "interval_s": INTERVAL_S,
        "samples_kept": SAMPLES,
        "outcomes": OUTCOMES,
        "counts": COUNTED,
        "bounds": _BOUNDS,
        "samples": [row_of(sample) for sample in history.samples],
    }


def row_of(sample: Sample) -> list[Any]:
    """Return one sample: time, conversations, outcomes, counts, and the buckets of the time to first text."""
    return [round(sample.time_s, 1), sample.conversations, sample.outcomes, sample.counts, sample.first_text]


def _quantiles(distribution: Distribution) -> dict[str, float | int | None]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    values = {name: distribution.quantile(share) for name, share in shares.items()}
    shown = {name: None if value is None else round(value, 4) for name, value in values.items()}
    return {**shown, "count": distribution.count}


_BOUNDS = [round(0.01 * 2**place, 2) for place in range(14)]
