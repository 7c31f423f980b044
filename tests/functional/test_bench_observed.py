"""The short form of `python -m bench.observed`: metrics hold while observers die, and a false figure is noticed."""

from __future__ import annotations

import re
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)

from bench import chaos_callers, observed

ANSWERED = r"(turns_total\{outcome=\"answered\"\}) (\S+)"


@pytest.fixture(autouse=True)
def run_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many conversations fit into it; the time of handshakes is not judged, which needs a calm machine."""
    monkeypatch.setattr(chaos_callers, "CALL_S", (0.5, 2.0))
    monkeypatch.setattr(chaos_callers, "HANDSHAKE_S", chaos_callers.GIVE_UP_S)
    monkeypatch.setattr(chaos_callers, "IN_FLIGHT_S", 1.0)


def test_metrics_hold_while_observers_and_a_worker_die() -> None:
    count = observed.run(0.1, calls=20, workers=2, harms=("kill",), kills=2)
    assert count.faults == []
    assert count.scrapes >= 4
    assert count.harms


def test_a_counter_that_goes_back_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once two scrapes of one supervisor had answered turns, the second has fewer."""
    scrape, scrapes = observed._get, [("", 0.0)]

    def falls(url: str) -> str:
        text = scrape(url)
        (start,) = re.findall(r"^se_server_start_time_seconds (\S+)", text, re.MULTILINE)
        earlier_start, answered = scrapes[-1]
        scrapes.append((start, sum(float(value) for _, value in re.findall(ANSWERED, text))))
        return re.sub(ANSWERED, r"\1 1.0", text) if earlier_start == start and answered > 1 else text

    monkeypatch.setattr(observed, "_get", falls)
    count = observed.run(0.08, calls=20, workers=1, harms=(), kills=0)
    assert any("went back" in fault for fault in count.faults)
    assert any("turns_total was 1" in fault for fault in count.faults)
