"""The supervisor's record of each worker process."""

from __future__ import annotations

from dataclasses import dataclass, field

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Failed
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.recycle import Wear


@dataclass(eq=False)
class WorkerRecord:
    """The supervisor's record of one worker process.

    Attributes:
        place: the worker's number within its generation.
        reaped: whether the exit code was collected.
        drain_ordered: whether the supervisor has ordered this worker to drain.
        kill_at: when the worker is killed if it is still alive, in monotonic seconds; None for never.
        killed_for: why the supervisor has killed it; empty if it has not.
        stacks_by: when `STACKS_SIGNAL` is sent because the worker's watchdog has not written the stacks.
        report_at: when the log next reports that the worker has not started yet.
    """

    place: int
    pid: int
    channel: ControlChannel
    slot: Slot
    generation: Generation
    started_at: float
    silence: Silence
    report_at: float
    state: State = State.STARTING
    failure: Failed | None = None
    reaped: bool = False
    drain_ordered: bool = False
    kill_at: float | None = None
    killed_for: str = ""
    stacks_by: float | None = None
    wear: Wear = field(init=False)

    def __post_init__(self) -> None:
        self.wear = Wear(self.slot, self.started_at)

    def __str__(self) -> str:
        return f"worker {self.place} (pid {self.pid})"

    @property
    def serves(self) -> bool:
        """Whether the worker takes new conversations, or will once it has started."""
        return not self.drain_ordered and self.state in (State.STARTING, State.READY)
