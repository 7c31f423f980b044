"""The cases of whole calls: a quiet one, and one that has it all."""

from __future__ import annotations

import asyncio
import dataclasses

from se_server.doctor.cases import case
from se_server.doctor.results import CaseFailed, NotTested, shown_count
from se_server.doctor.target import CASCADE_TIMEOUT_S, Patient, say
from se_server.errors import CallerError
from se_server.simulator.habits import IDLE_DROP_S, Habits

WHOLE = "Whole calls"
HOSTILE_TURNS = 5


@case("quiet", WHOLE, "keeps a call alive in which nobody speaks", turns=1)
async def quiet(patient: Patient) -> tuple[str, str]:
    habits = Habits(idle_drop_s=60.0) if patient.quiet_s > 60 else Habits()
    async with patient.call(habits) as caller:
        began = caller.now
        signs = 0
        while (left_s := began + patient.quiet_s - caller.now) > 0 and caller.ended is None:
            before = caller.model.last_traffic
            await asyncio.sleep(min(left_s, 0.5))
            signs += caller.model.last_traffic > max(before, began)
        if caller.ended is not None:
            raise CaseFailed(f"the call was over after {caller.now - began:.0f} s: {caller.ended}")
        reply = await say(caller, patient.words.short)
    if signs:
        return reply.text, f"{patient.quiet_s:g} s, {shown_count(signs, 'keep-alive')}"
    if patient.quiet_s < 60:
        raise NotTested(
            f"the call lasted, and nothing came in {patient.quiet_s:g} s; whether a keep-alive ever does, --long tells"
        )
    return reply.text, f"the call lasted for {patient.quiet_s:g} s"


@case("hostile", WHOLE, "bears all of it at random", turns=3 * HOSTILE_TURNS)
async def hostile(patient: Patient) -> tuple[str, str]:
    # An agent takes its time, however fast the rest goes: it is asked again as seldom as by the live API.
    habits = dataclasses.replace(
        Habits.hostile(patient.seed).scaled(0.25), resend_after_s=CASCADE_TIMEOUT_S, idle_drop_s=IDLE_DROP_S
    )
    async with patient.call(habits, f"hostile-{patient.seed}") as caller:
        for number in range(HOSTILE_TURNS):
            try:
                await caller.say(patient.words.long if number % 2 else patient.words.short)
            except CallerError as error:
                raise CaseFailed(f"turn {number + 1}: {error}", caller.heard) from None
        try:
            await caller.quiet()
        except CallerError as error:
            raise CaseFailed(str(error), caller.heard) from None
        summary = caller.summary()
        if not summary.is_ok:
            raise CaseFailed("; ".join(summary.problems), caller.heard)
        return caller.heard, str(summary)
