"""The same conversation again: takes the steps of an earlier one, against the code as it is now."""

from __future__ import annotations

from collections.abc import Sequence

from se_server.simulator.caller import Caller
from se_server.simulator.script import Step


async def take_again(caller: Caller, steps: Sequence[Step]) -> None:
    """Take the steps of an earlier conversation.

    Raises:
        CallerError: the conversation ends meanwhile.
    """
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        waits = following is None or following.interrupt is None
        if step.interrupt is not None:
            await _interrupt(caller, step)
        else:
            await caller.quiet()
            caller.utter(step.say or "")
        turn = caller.model.turn
        if waits and turn is not None:
            await caller.answered(turn)


async def _interrupt(caller: Caller, step: Step) -> None:
    """Interrupt the newest answer at the moment of a step, or follow it where it is shorter now."""
    turn = caller.model.turn
    until = 0.0 if turn is None else turn.said_at + (step.after_s or 0.0)
    while turn is not None and turn.is_answering:
        left_s = until - caller.now
        if len(turn.heard) >= (step.after_chars or 0) and left_s <= 0:
            break
        await caller.event("answer", until if left_s > 0 else None)
    caller.utter(step.interrupt or "")
