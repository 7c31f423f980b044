"""The short form of `python -m bench.observed`: metrics hold while observers die, and a false figure is noticed."""

from __future__ import annotations

import re
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)

from bench import observed


def test_metrics_hold_while_observers_and_a_worker_die() -> None:
    count = observed.run(0.1, calls=20, workers=2, harms=("kill",), kills=2)
    assert count.faults == []
    assert count.scrapes >= 4
    assert count.harms


def test_a_counter_that_goes_back_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    scrape, scrapes = observed._get, []

    def falls(url: str) -> str:
        text = scrape(url)
        scrapes.append(text)
        return text if len(scrapes) != 3 else re.sub(r"(turns_total\{outcome=\"answered\"\}) \S+", r"\1 1.0", text)

    monkeypatch.setattr(observed, "_get", falls)
    count = observed.run(0.08, calls=20, workers=1, harms=(), kills=0)
    assert any("went back" in fault for fault in count.faults)
    assert any("turns_total was 1" in fault for fault in count.faults)
