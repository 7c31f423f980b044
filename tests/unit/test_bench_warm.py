"""The tables of `bench.warm` judge the targets by the medians."""

from __future__ import annotations

from typing import Any

from bench.warm_figures import FIGURES, MODES, goals, is_met, report


def results(**warm: float) -> dict[str, Any]:
    """Return figures that are 1 without preloading, and `warm` or 0.1 with it."""
    figures = {mode: {name: [1.0, 1.0, 9.0] for name in FIGURES} for mode in MODES}
    for name in FIGURES:
        figures["--preload-app"][name] = [warm.get(name, 0.1)]
    return {"figures": {"openai": figures}, "machine": "a machine", "python": "3.11.7", "made": "2026-01-01"}


def test_ratios_are_judged_by_medians() -> None:
    found = goals(results(first_usual_s=0.14, private_used_bytes=0.5, ready_s=0.04), "openai")
    assert {name for name, ratio in found.items() if is_met(name, ratio)} == {
        "respawn",
        "instant",
        "first turn",
        "ready",
    }
    assert round(found["memory"], 3) == 2


def test_missed_targets_are_marked() -> None:
    text = report(results(respawn_s=0.5))
    assert "1 to 3 servers of each kind" in text
    assert "| respawn after SIGKILL, without / with | at least 10 | 2.0 (missed) |" in text
