"""Cases of whole conversations: a quiet one, and one with all habits at random."""

from __future__ import annotations

import asyncio
import dataclasses

from se_server.doctor.cases import case
from se_server.doctor.results import CaseFailed, NotTested, shown_count
from se_server.doctor.target import CASCADE_TIMEOUT_S, Target, say
from se_server.errors import CallerError
from se_server.simulator.habits import IDLE_DROP_S, Habits

WHOLE = "Whole conversations"
HOSTILE_TURNS = 5


@case("quiet", WHOLE, "keeps a quiet conversation alive", turns=1)
async def quiet(target: Target) -> tuple[str, str]:
    habits = Habits(idle_drop_s=60.0) if target.quiet_s > 60 else Habits()
    async with target.conversation(habits) as caller:
        began = caller.now
        signs = 0
        while (left_s := began + target.quiet_s - caller.now) > 0 and caller.ended is None:
            before = caller.model.last_traffic
            await asyncio.sleep(min(left_s, 0.5))
            signs += caller.model.last_traffic > max(before, began)
        if caller.ended is not None:
            raise CaseFailed(f"the conversation was over after {caller.now - began:.0f} s: {caller.ended}")
        reply = await say(caller, target.words.short)
    if signs:
        return reply.text, f"{target.quiet_s:g} s, {shown_count(signs, 'keep-alive')}"
    if target.quiet_s < 60:
        raise NotTested(
            f"the conversation lasted without a keep-alive in {target.quiet_s:g} s; use --long to wait for one"
        )
    return reply.text, f"the conversation lasted for {target.quiet_s:g} s"


@case("hostile", WHOLE, "handles all habits at random", turns=3 * HOSTILE_TURNS)
async def hostile(target: Target) -> tuple[str, str]:
    # Only the other times are scaled: an agent needs its time, so it is asked again as seldom as by the live API.
    habits = dataclasses.replace(
        Habits.hostile(target.seed).scaled(0.25), resend_after_s=CASCADE_TIMEOUT_S, idle_drop_s=IDLE_DROP_S
    )
    async with target.conversation(habits, f"hostile-{target.seed}") as caller:
        for number in range(HOSTILE_TURNS):
            try:
                await caller.say(target.words.long if number % 2 else target.words.short)
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
