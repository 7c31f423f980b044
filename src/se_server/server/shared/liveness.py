"""When a worker counts as hung.

A worker whose heartbeat moves is alive, however slowly it moves. One whose heartbeat stands still is *silent*, and it
is hung when it has been silent for the hang timeout; but only time that it could have used is counted:

* While one of its threads wants the CPU, the CPU time that its threads have really got is counted. A worker that the
  machine starves gets none and is not to blame; an endless loop gets all it wants.
* While all of its threads sleep, the whole time is counted: the loop has a timer running, so it sleeps elsewhere than
  in its selector, in synchronous code.
* While its main thread is in an uninterruptible wait (swap, a disk), nothing is counted.
* While a debugger holds it, nothing is counted. One that was stopped by a signal is counted like a sleeper: whoever
  stops it longer than the hang timeout takes it out of service.
* Between two looks no more is counted than lies between two looks that are on time: when the looker itself was starved,
  stopped or suspended, so was the worker.

Without /proc the whole time is counted.
"""

from __future__ import annotations

from se_server.server.shared.procfs import threads_of

LOOKS = 10  # per hang timeout
MAX_LOOK_S = 1.0


class Silence:
    """How long one worker has been silent.

    Args:
        pid: the worker's.
        hang_timeout_s: how long it may be.
        without: a thread of the worker that does not count.
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
        """How long to wait between two looks."""
        return min(MAX_LOOK_S, self._timeout_s / LOOKS)

    def is_hung(self, heartbeat_ns: int, now: float) -> bool:
        """Look, and say whether the time is up.

        Args:
            heartbeat_ns: the worker's latest heartbeat.
            now: monotonic seconds.
        """
        if heartbeat_ns != self._heartbeat_ns:
            self._heartbeat_ns = heartbeat_ns
            self.silent_s = 0.0
            self._run_s = None
        else:
            # A worker beats twenty times a second: what is silent between two looks deserves to be looked at.
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
