"""Cases of handlers that misbehave, such as the faults measured in the published SDK."""

from __future__ import annotations

import asyncio

from se_server.doctor.cases import case
from se_server.doctor.conversation_cases import LATE_PONG_S, hang_up
from se_server.doctor.readings import EMPTY, WORDLESS
from se_server.doctor.results import CaseFailed, shown_s
from se_server.doctor.target import CASCADE_TIMEOUT_S, Target, first_chunk, heard_well, say, until
from se_server.errors import CallerError

HANDLERS = "Handlers that misbehave"
LATE_ANSWER_S = 0.5
CLEAN_UP = "Take 0.8 seconds to clean up."
IGNORE = "Ignore interruptions."


@case("clean-up-pong", HANDLERS, "answers pings while an old handler cleans up", turns=2, needs_reference=True)
async def clean_up_pong(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        await first_chunk(caller, caller.utter(CLEAN_UP))
        turn = caller.utter(target.words.short)
        waited_s = await caller.ping()
        if waited_s > LATE_PONG_S:
            raise CaseFailed(f"the pong came after {shown_s(waited_s)}", turn.heard)
        await caller.answered(turn)
        return heard_well(caller, turn), f"pong after {shown_s(waited_s)}"


@case("clean-up-turn", HANDLERS, "answers while an old handler cleans up", turns=2, needs_reference=True)
async def clean_up_turn(target: Target) -> tuple[str, str]:
    return await _next_answer_in_time(target, CLEAN_UP)


@case("no-cancel", HANDLERS, "answers while a handler ignores cancellation", turns=2, needs_reference=True)
async def no_cancel(target: Target) -> tuple[str, str]:
    return await _next_answer_in_time(target, IGNORE)


@case("no-cancel-goodbye", HANDLERS, "hangs up while a handler ignores cancellation", turns=1, needs_reference=True)
async def no_cancel_goodbye(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        turn = caller.utter(IGNORE)
        await first_chunk(caller, turn)
        return await hang_up(caller, turn.heard)


async def _next_answer_in_time(target: Target, text: str) -> tuple[str, str]:
    async with target.conversation() as caller:
        await first_chunk(caller, caller.utter(text))
        turn = caller.utter(target.words.short)
        try:
            await caller.answered(turn)
        except CallerError:
            raise CaseFailed(caller.verdict(turn).reason, turn.heard) from None
        heard = heard_well(caller, turn)
        assert turn.first_chunk_at is not None
        waited_s = turn.first_chunk_at - turn.said_at
        if waited_s > LATE_ANSWER_S:
            raise CaseFailed(f"the next answer began after {shown_s(waited_s)}", heard)
        return heard, f"the next answer began after {shown_s(waited_s)}"


@case("stream-closed", HANDLERS, "closes the stream of an interrupted answer", turns=2, needs_reference=True)
async def stream_closed(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        await first_chunk(caller, caller.utter("Use a language model."))
        await say(caller, target.words.short)
        await asyncio.sleep(0.5)  # the stream may be closed after the next answer has begun
        reply = await say(caller, "Are your streams closed?")
        if not reply.text.startswith("Yes"):
            raise CaseFailed("the stream is still open: the language model goes on, and is billed", reply.text)
        return reply.text, "the agent says so"


@case(
    "fails",
    HANDLERS,
    "ends the turn when a handler raises at once",
    turns=2,
    needs_reference=True,
    readings=(EMPTY, WORDLESS),
)
async def fails(target: Target) -> tuple[str, str]:
    return await _is_ended(target, "Fail.")


@case("fails-midway", HANDLERS, "ends the turn of a stream that raises", turns=2, needs_reference=True)
async def fails_midway(target: Target) -> tuple[str, str]:
    return await _is_ended(target, "Fail midway.")


@case(
    "says-nothing",
    HANDLERS,
    "ends the turn of a handler that sends nothing",
    turns=2,
    needs_reference=True,
    readings=(EMPTY, WORDLESS),
)
async def says_nothing(target: Target) -> tuple[str, str]:
    return await _is_ended(target, "Say nothing.")


async def _is_ended(target: Target, text: str) -> tuple[str, str]:
    async with target.conversation() as caller:
        turn = caller.utter(text)
        ended = await until(caller, lambda: turn.final_at is not None, CASCADE_TIMEOUT_S)
        if not ended:
            what = "nothing more came" if turn.chunks else "nothing came"
            what += f" within {CASCADE_TIMEOUT_S:g} s, not even a final"
            if caller.model.failed_answers:
                what = "the answer had no text that counts"
            raise CaseFailed(f"{what}: the API asks again, then gives up", turn.heard)
        assert turn.final_at is not None
        after = f"ended after {shown_s(turn.final_at - turn.said_at)}"
        await say(caller, target.words.short)
        return turn.heard, f"{after}, and the next question was heard"
