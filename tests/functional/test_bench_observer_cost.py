"""The short form of `python -m bench.observer_cost`: a rate is reached, and the figures of the observer are printed."""

from __future__ import annotations

import re
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)

from bench import observer_cost


def test_the_cost_of_an_observer_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_cost, "SETTLE_S", 0.5)
    code = observer_cost.main(["--turns-per-s", "20", "--seconds", "2", "--pairs", "1"])
    shown = capsys.readouterr().out
    assert code in (0, 1, 2), shown  # the machine has other work: neither the rate nor the share is judged
    assert re.search(r"worker: [\d.]+ us of CPU a turn, [\d.]+ with --admin \([+-][\d.]+%\)", shown)
    assert re.search(r"the worker takes [+-][\d.]+% with --admin, the median of 1\n", shown)
    assert re.search(r"[\d,]+ turns/s, nobody asks: [\d.]+% of a core\n", shown)
    assert re.search(r"memory of the observer: [\d.]+ MiB of its own", shown)
    assert re.search(r"memory of the worker's ring: 0\.[0-9]+ MiB", shown)
