"""Liveness: decides when a worker is hung.

A worker whose heartbeat advances is alive, however slowly. A worker whose heartbeat stands still is *silent*, and it is
hung once it has been silent for the hang timeout. Only time that the worker could have used counts:

* While one of its threads wants the CPU, the CPU time that its threads have got counts. A worker that the machine
  starves gets none; an endless loop gets all it wants.
* While all of its threads sleep, the whole time counts. The loop has a timer, so it does not sleep in its selector but
  in synchronous code.
* While its main thread is in an uninterruptible wait (swap, a disk), no time counts.
* While a debugger holds it, no time counts. A worker stopped by a signal counts like one that sleeps: stopping it for
  longer than the hang timeout takes it out of service.
* Between two looks, at most the interval of two punctual looks counts: when the observing process was starved, stopped
  or suspended, the worker was, too.

Without /proc the whole time counts.
"""

from __future__ import annotations

from se_server.server.shared.procfs import threads_of

LOOKS = 10  # per hang timeout
MAX_LOOK_S = 1.0


class Silence:
    """Measures how long one worker has been silent.

    Args:
        pid: the pid of the worker.
        hang_timeout_s: the silence after which the worker is hung.
        without: the native id of a thread to leave out.
    """

    def __init__(self, pid: int, hang_timeout_s: float, *, without: int = 0) -> None:
        self._pid = pid
        self._without = without
        self._timeout_s = hang_timeout_s
        self._heartbeat_ns = -1
        self._looked_at = 0.0
        self._run_s: float | None = None
        self.silent_s = 0.0

    @property
    def look_s(self) -> float:
        """The interval between two calls of `is_hung`, in seconds."""
        return min(MAX_LOOK_S, self._timeout_s / LOOKS)

    def is_hung(self, heartbeat_ns: int, now: float) -> bool:
        """Look at the worker and return whether it is hung.

        Args:
            heartbeat_ns: the latest heartbeat of the worker.
            now: monotonic seconds.
        """
        if heartbeat_ns != self._heartbeat_ns:
            self._heartbeat_ns = heartbeat_ns
            self.silent_s = 0.0
            self._run_s = None
        else:
            # A worker beats twenty times a second: one without a beat between two looks is silent.
            self.silent_s += self._usable_s(min(now - self._looked_at, 2 * self.look_s))
        self._looked_at = now
        return self.silent_s >= self._timeout_s

    def _usable_s(self, elapsed_s: float) -> float:
        threads = threads_of(self._pid, without=self._without)
        if threads is None:
            return elapsed_s
        had_s = 0.0 if self._run_s is None else max(0.0, threads.run_s - self._run_s)
        self._run_s = threads.run_s
        if "t" in threads.states or threads.states[0] == "D":
            return 0.0
        if "R" in threads.states:
            return min(elapsed_s, had_s)
        return elapsed_s
