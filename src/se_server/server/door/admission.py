"""Admission under load: running conversations come first, and new ones are refused early.

An `Admission` counts the sessions and pending handshakes of one worker and publishes their sum on the scoreboard. Each
session takes one of the seats that all workers share. Turns and the loop's lag are read from their own counters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from se_server.options import interval, number, option, options_of
from se_server.server.door.placement import BUSY
from se_server.server.shared.heartbeat import BEAT_S
from se_server.server.shared.scoreboard import Slot, State
from se_server.types import Stats

_BEAT_NS = int(BEAT_S * 1e9)

DRAINING = "draining"
MAX_SESSIONS, MAX_TURNS, SHED_LOOP_LAG_S = "max_sessions", "max_turns", "shed_loop_lag_s"
MAX_PENDING_HANDSHAKES = "max_pending_handshakes"


@dataclass(frozen=True)
class Capacity:
    """Limits beyond which new conversations are answered 503; None for no limit.

    Attributes:
        max_sessions: conversations at once, over all workers.
        max_pending_handshakes: connections of one worker that have not sent their whole request yet.
        max_turns: turns of one worker whose handlers run.
        shed_loop_lag_s: the lag of a worker's event loop in seconds.
    """

    HEADING: ClassVar[str] = "Capacity"

    max_sessions: int | None = option(
        None,
        number,
        "Conversations at once, over all workers. Beyond a limit of this group, new ones are answered 503.",
        "N",
        default_text="no limit",
    )
    max_pending_handshakes: int | None = option(
        8192, number, "Connections of one worker that have not sent their whole request yet.", "N"
    )
    max_turns: int | None = option(
        None, number, "Turns of one worker that are being answered at once.", "N", default_text="no limit"
    )
    shed_loop_lag_s: float | None = option(
        None, interval, "The lag of a worker's event loop.", "SECONDS", default_text="no limit"
    )


OVERLOADS = tuple(options_of(Capacity))
"""The limits beyond which new conversations are refused, named as their options."""


class Admission:
    """Counts one worker's connections and decides whether it accepts one more.

    Args:
        capacity: the limits.
        stats: the counters of the worker's conversations.
        slot: the worker's slot; None in a process that serves alone, whose loop's lag is not measured.
    """

    def __init__(self, capacity: Capacity, stats: Stats, slot: Slot | None) -> None:
        self._capacity = capacity
        self._stats = stats
        self._slot = slot
        self._pending = 0
        self._sessions = 0

    # --- counting ---

    def handshake_began(self) -> bool:
        """Count a new connection; return False if it exceeds the limit of pending handshakes."""
        self._pending += 1
        self.show()
        most = self._capacity.max_pending_handshakes
        return most is None or self._pending <= most

    def handshake_ended(self) -> None:
        """Count a handshake that succeeded or failed."""
        self._pending -= 1
        self.show()

    def set_sessions(self, sessions: int) -> None:
        """Set the number of live sessions, and release a claimed seat that none of them uses."""
        self._sessions = sessions
        if self._slot is not None:
            self._slot.hold(sessions)
        self.show()

    def show(self) -> None:
        """Publish this worker's load on the scoreboard."""
        if self._slot is not None:
            self._slot.load = self._pending + self._sessions + (BUSY if self._strain() else 0)

    # --- deciding ---

    def claim(self) -> str:
        """Claim a seat for one more session; return the limit that forbids it, or the empty text.

        Call `set_sessions` afterwards in both cases.
        """
        strain = self._strain()
        if strain:
            return strain
        most = self._capacity.max_sessions
        if most is None:
            return ""
        free = self._sessions < most if self._slot is None else self._slot.claim(most)
        return "" if free else MAX_SESSIONS

    def obstacle(self) -> str:
        """Return the obstacle to new conversations, for checks of this server; empty if there is none."""
        slot, most = self._slot, self._capacity.max_sessions
        if slot is not None and not slot.workers_in(State.READY):
            return DRAINING
        if most is not None and (self._sessions if slot is None else slot.claimed()) >= most:
            return MAX_SESSIONS
        pending = self._capacity.max_pending_handshakes
        if pending is not None and self._pending > pending:  # the connection of the check itself does not count
            return MAX_PENDING_HANDSHAKES
        return self._strain()

    def _strain(self) -> str:
        capacity = self._capacity
        if capacity.max_turns is not None and self._stats.turns_started - self._stats.turns_ended >= capacity.max_turns:
            return MAX_TURNS
        if capacity.shed_loop_lag_s is not None and self._lag_s() > capacity.shed_loop_lag_s:
            return SHED_LOOP_LAG_S
        return ""

    def _lag_s(self) -> float:
        slot = self._slot
        if slot is None:
            return 0.0
        overdue_ns = time.monotonic_ns() - slot.heartbeat_ns - _BEAT_NS
        return max(slot.loop_lag_ns, overdue_ns) / 1e9
