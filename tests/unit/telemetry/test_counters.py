"""A counter is one line of `Counters`, and every counter starts at 0."""

from __future__ import annotations

import re
from pathlib import Path

from se_server.telemetry.counters import COUNTERS, Counters

SOURCE = Path(__file__).parents[3] / "src/se_server/telemetry/counters.py"


def test_every_line_is_a_counter() -> None:
    assert re.findall(r"^    (\w+): int", SOURCE.read_text(), re.MULTILINE) == list(COUNTERS)


def test_counters_start_at_zero() -> None:
    counters = Counters()
    assert [getattr(counters, name) for name in COUNTERS] == [0] * len(COUNTERS)


def test_uncompiled_counters_have_the_same_names() -> None:
    names: dict[str, object] = {"__name__": "uncompiled"}
    exec(compile(SOURCE.read_text(), str(SOURCE), "exec"), names)
    assert names["COUNTERS"] == COUNTERS
