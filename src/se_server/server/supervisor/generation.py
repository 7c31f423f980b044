"""A generation: workers made from one `WorkerSpec`. A reload makes the next one."""

from __future__ import annotations

from se_server.server.shared.control_messages import Ready
from se_server.server.supervisor.recycle import RecycleLimits
from se_server.server.supervisor.zygote_process import Zygote
from se_server.server.worker.spec import WorkerSpec

STEADY_S = 5.0  # a worker that lives this long has started well: its death does not delay the next worker
MAX_BOOT_FAILURES = 5
MAX_PAUSE_S = 30.0


class Generation:
    """The places of a generation's workers, and the times at which vacant places are filled.

    Args:
        number: counts from 1.
        spec: describes the workers.
        now: monotonic seconds.
        count: the number of workers; `lifecycle.workers` unless the server was scaled.

    Attributes:
        lifecycle: the options of its workers' lives.
        recycle_limits: when a worker is replaced although it is healthy.
        vacant: the time at which the next worker of a place is due, by place.
        failures: consecutive workers that could not start.
        ready_message: the last `Ready` of one of its workers.
        zygote: forks its workers; None if the supervisor does.
    """

    def __init__(self, number: int, spec: WorkerSpec, now: float, count: int) -> None:
        self.number = number
        self.spec = spec
        self.lifecycle = spec.lifecycle
        self.count = count
        self.recycle_limits = RecycleLimits.of(spec.lifecycle)
        self.vacant = dict.fromkeys(range(count), now)
        self.failures = 0
        self.ready_message = Ready()
        self.zygote: Zygote | None = None
        self._young_deaths = 0  # in a row

    def due(self, now: float) -> list[int]:
        """Return the places whose next worker is due."""
        return [place for place, due in self.vacant.items() if due <= now]

    def pause_after_death(self, lived_s: float) -> float:
        """Return the pause before the next worker, in seconds: 0 unless workers keep dying young."""
        self._young_deaths = self._young_deaths + 1 if lived_s < STEADY_S else 0
        return 0.0 if self._young_deaths <= self.count else _backoff(self._young_deaths - self.count)

    def pause_after_failure(self) -> float | None:
        """Count a worker that could not start. Return the pause before the next try in seconds, None to give up."""
        self.failures += 1
        return _backoff(self.failures) if self.failures < MAX_BOOT_FAILURES else None


def _backoff(failures: int) -> float:
    return float(min(MAX_PAUSE_S, 0.25 * 2 ** min(failures, 10)))
