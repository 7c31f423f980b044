"""A counter is one line of `Counters`, and every counter starts at 0."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from se_server.telemetry.counters import COUNTERS, Counters

SOURCE = Path(__file__).parents[3] / "src/se_server/telemetry/counters.py"


def test_every_line_is_a_counter() -> None:
    assert re.findall(r"^    (\w+): int", SOURCE.read_text(), re.MULTILINE) == list(COUNTERS)


def test_counters_start_at_zero() -> None:
    counters = Counters()
    assert [getattr(counters, name) for name in COUNTERS] == [0] * len(COUNTERS)


def test_counters_count_in_memory_of_others() -> None:
    memory = bytearray(8 * len(COUNTERS))
    counters = Counters(memory=memory)
    counters.late_texts += 2
    assert memory[COUNTERS.index("late_texts") * 8] == 2
    with pytest.raises(ValueError, match="bytes of memory"):
        Counters(memory=memory[:-1])


def test_a_misspelt_counter_is_an_error() -> None:
    counters = Counters()
    with pytest.raises(AttributeError, match="there is no counter late_text"):
        counters.late_text += 1  # type: ignore[attr-defined]
