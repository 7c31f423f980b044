"""The log of refused connections and requests, limited in rate so that a flood cannot fill a disk.

The peer does not learn the reason of a refusal.
"""

from __future__ import annotations

from collections.abc import Callable

from se_server.errors import without_keys
from se_server.telemetry._printable import cut
from se_server.telemetry.guarded import guarded_logger

log = guarded_logger("se_server.door")

INTERVAL_S = 1.0
MAX_DETAIL = 400  # characters: addresses and names may come from a header


class RefusalLog:
    """Logs refusals, at most one line per kind and second, with the number of omitted ones.

    Args:
        clock: monotonic seconds.
        count: is called with the kind of each refusal, for metrics.
    """

    __slots__ = ("_clock", "_count", "_kinds")

    def __init__(self, clock: Callable[[], float], count: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._count = count
        self._kinds: dict[str, tuple[float, int]] = {}  # kind -> time of the next line, omitted lines

    def add(self, kind: str, detail: str | Callable[[], str]) -> None:
        """Log one refusal, or count it.

        Args:
            kind: one of few: each is remembered.
            detail: anything else worth knowing, without secrets, or a function that finds it out; it is called only
                for a refusal that is logged.
        """
        if self._count is not None:
            self._count(kind)
        now = self._clock()
        next_s, left_out = self._kinds.get(kind, (now, 0))
        if now < next_s:
            self._kinds[kind] = (next_s, left_out + 1)
            return
        detail = without_keys(cut(detail if isinstance(detail, str) else detail(), MAX_DETAIL))
        self._kinds[kind] = (now + INTERVAL_S, 0)
        if left_out:
            log.warning("%s: %s; %d more of these since the last line", kind, detail, left_out)
        else:
            log.warning("%s: %s", kind, detail)

    def flush(self) -> None:
        """Log the counts of omitted lines."""
        for kind, (next_s, left_out) in self._kinds.items():
            if left_out:
                log.warning("%s: %d more of these since the last line", kind, left_out)
                self._kinds[kind] = (next_s, 0)
