"""A generation: workers made from one plan. A reload makes the next one."""

from __future__ import annotations

from se_server.server.shared.control import Ready
from se_server.server.supervisor.plan import Plan

STEADY_S = 5.0  # a worker that lived this long did not die of how it started
MAX_BOOT_FAILURES = 5
MAX_PAUSE_S = 30.0


class Generation:
    """The places of its workers, and when each vacant one is filled.

    Args:
        number: counts from 1.
        plan: what its workers are made from.
        now: monotonic seconds.
        count: how many workers; the plan's number unless it was scaled.

    Attributes:
        vacant: when the next worker of a place is due, by place.
        failures: workers that could not start, in a row.
        told: what its workers say when they are ready.
    """

    def __init__(self, number: int, plan: Plan, now: float, count: int) -> None:
        self.number = number
        self.plan = plan
        self.count = count
        self.vacant = dict.fromkeys(range(count), now)
        self.failures = 0
        self.told = Ready()
        self._young_deaths = 0  # in a row

    def due(self, now: float) -> list[int]:
        """Return the places whose next worker is due."""
        return [place for place, due in self.vacant.items() if due <= now]

    def pause_after_death(self, lived_s: float) -> float:
        """Return how long to wait before the next worker: 0 unless they die young, one after another."""
        self._young_deaths = self._young_deaths + 1 if lived_s < STEADY_S else 0
        return 0.0 if self._young_deaths <= self.count else _backoff(self._young_deaths - self.count)

    def pause_after_failure(self) -> float | None:
        """Count one more worker that could not start; return how long to wait, None if that was the last try."""
        self.failures += 1
        return _backoff(self.failures) if self.failures < MAX_BOOT_FAILURES else None


def _backoff(failures: int) -> float:
    return float(min(MAX_PAUSE_S, 0.25 * 2 ** min(failures, 10)))
