"""Cases of the live API's habits: repetition, further ids, interruptions, lost connections."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from se_server.doctor.cases import case
from se_server.doctor.results import CaseFailed, NotTested, shown_count, shown_s
from se_server.doctor.target import (
    Target,
    first_chunk,
    had_more_to_say,
    heard_well,
    last_turn,
    say,
    until,
)
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn
from se_server.simulator.habits import Habits, Malformed, Moment, Wording

SPEAKING_GAP_S = 0.3
AGAIN, INTERRUPTIONS, NETWORK = "The API asks again", "Interruptions", "A bad network"


# --- the API asks again ---------------------------------------------------------------------------------------------


@case("again-thinking", AGAIN, "goes on when asked again before the first word", turns=1)
async def again_thinking(target: Target) -> tuple[str, str]:
    async with target.conversation(Habits(resend_after_s=target.silence_s, max_tries=100)) as caller:
        turn = await _ask(caller, target.silent_question)
        tries = len(turn.asks[-1].sent_at)
        if tries < 2:
            raise NotTested(
                f"the first word was there before the API could ask again, after {shown_s(target.silence_s)}"
            )
        heard = heard_well(caller, turn)
        await _is_answered_once(target, caller, turn)
        return heard, f"asked {tries} times, heard once"


@case("again-speaking", AGAIN, "goes on when asked again while it speaks", turns=1)
async def again_speaking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        turn = caller.utter(target.words.long)
        await first_chunk(caller, turn)
        since = caller.now
        caller.replay(turn.asks[-1].message)
        await caller.answered(turn)
        heard = heard_well(caller, turn)
        had_more_to_say(caller, turn, since)
        await _is_answered_once(target, caller, turn)
        return heard, "asked twice, heard once"


@case("again-answered", AGAIN, "does not answer again what it has answered", turns=1)
async def again_answered(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        reply = await say(caller, target.words.short)
        turn = last_turn(caller)
        caller.replay(turn.asks[-1].message)
        await _is_answered_once(target, caller, turn)
        return reply.text, "asked twice, answered once"


@case("older-thinking", AGAIN, "goes on when an older id comes before its first word", turns=2)
async def older_thinking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        silence_s = target.silence_s
        await say(caller, target.words.short)
        older = last_turn(caller)
        turn = caller.utter(target.silent_question)
        await asyncio.sleep(silence_s / 2)
        if turn.chunks:
            raise NotTested("the first word was there before the older id could come again")
        return await _older_again(target, caller, older, turn)


@case("older-speaking", AGAIN, "goes on when the interrupted id comes again", turns=2)
async def older_speaking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        older = caller.utter(target.words.long)
        await first_chunk(caller, older)
        turn = caller.utter(target.words.long)
        await first_chunk(caller, turn)
        since = caller.now
        heard, why = await _older_again(target, caller, older, turn)
        had_more_to_say(caller, turn, since)
        return heard, why


@case("older-answered", AGAIN, "does nothing when an answered older id comes again", turns=2)
async def older_answered(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        await say(caller, target.words.short)
        older = last_turn(caller)
        await say(caller, target.words.short)
        return await _older_again(target, caller, older, last_turn(caller))


@case("two-ids", AGAIN, "answers under the second of two ids for a pause", turns=2)
async def two_ids(target: Target) -> tuple[str, str]:
    return await _several_ids(target, 1, Wording.PUNCTUATION)


@case("three-ids", AGAIN, "answers under the third of three ids for a pause", turns=3)
async def three_ids(target: Target) -> tuple[str, str]:
    return await _several_ids(target, 2, Wording.PUNCTUATION)


@case("growing-words", AGAIN, "answers all of an utterance that comes in three parts", turns=3)
async def growing_words(target: Target) -> tuple[str, str]:
    return await _several_ids(target, 2, Wording.GROWING)


async def _ask(caller: Caller, text: str) -> CallTurn:
    turn = caller.utter(text)
    try:
        await caller.answered(turn)
    except CallerError as error:
        raise CaseFailed(f"{caller.verdict(turn).reason}; {error}", turn.heard) from None
    return turn


async def _is_answered_once(target: Target, caller: Caller, turn: CallTurn) -> None:
    """Check that no further answer comes for a turn that was answered."""
    repeated = await until(caller, lambda: caller.verdict(turn).is_billed_twice, 0.5 + 2 * target.first_word_s)
    await target.settle()
    if repeated or caller.verdict(turn).is_billed_twice:
        times = sum(bool(answer) for ask in turn.asks for answer in ask.answers)
        raise CaseFailed(f"the handler ran again: {times} answers to one question, each of them billed", turn.heard)
    heard_well(caller, turn)


async def _older_again(target: Target, caller: Caller, older: CallTurn, turn: CallTurn) -> tuple[str, str]:
    ask = older.asks[-1]
    answered_before = len(ask.text)
    caller.replay(ask.message)
    try:
        await caller.answered(turn)
    except CallerError:
        raise CaseFailed(caller.verdict(turn).reason, turn.heard) from None
    heard = heard_well(caller, turn)
    await target.settle()
    late = ask.text[answered_before:]
    if late and older.final_at is not None:
        raise CaseFailed(
            f"the handler ran again for id {ask.event_id}, and its answer is not heard: {len(late)} characters", heard
        )
    heard_well(caller, turn)
    return heard, f"id {ask.event_id} came again, {turn.event_id} was heard"


@case("growing-fast", AGAIN, "answers an utterance that grows four times in a second", turns=5)
async def growing_fast(target: Target) -> tuple[str, str]:
    return await _growing(target, Habits(growing_parts=4), 4, target.words.long)


async def _several_ids(target: Target, extra: int, wording: Wording) -> tuple[str, str]:
    try:
        gap_s, text = min(0.5, target.silence_s), target.silent_question
    except NotTested:  # an agent without silence gets the further ids while it speaks
        gap_s, text = SPEAKING_GAP_S, target.words.long
    return await _growing(target, Habits(extra_ids=extra, extra_id_after_s=gap_s, wording=wording), extra, text)


async def _growing(target: Target, habits: Habits, extra: int, text: str) -> tuple[str, str]:
    async with target.conversation(habits) as caller:
        turn = await _ask(caller, text)
        if len(turn.asks) < extra + 1:
            raise NotTested("the answer was complete before the API could transcribe again")
        heard = heard_well(caller, turn)
        ids = ", ".join(str(ask.event_id) for ask in turn.asks)
        twice = ", two answers were begun" if caller.verdict(turn).is_billed_twice else ""
        return heard, f"ids {ids}; heard under {turn.event_id}{twice}"


# --- interruptions --------------------------------------------------------------------------------------------------


@case("interrupts-thinking", INTERRUPTIONS, "answers the second of two questions in one breath", turns=2)
async def interrupts_thinking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        first = caller.utter(target.silent_question)
        turn = await _ask(caller, target.words.short)
        heard = heard_well(caller, turn, first)
        await target.settle()
        return heard_well(caller, turn, first) or heard, _how_soon(turn)


@case("interrupts-speaking", INTERRUPTIONS, "stops when it is interrupted, and answers", turns=2)
async def interrupts_speaking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        first = caller.utter(target.words.long)
        await first_chunk(caller, first)
        turn = await _ask(caller, target.words.short)
        heard_well(caller, turn, first)
        await target.settle()
        return heard_well(caller, turn, first), f"{len(first.heard)} characters, then the next answer {_how_soon(turn)}"


@case("interrupts-often", INTERRUPTIONS, "answers the last of five questions at once", turns=5)
async def interrupts_often(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        before = []
        for _ in range(4):
            before.append(caller.utter(target.words.long))
            await until(caller, lambda: bool(before[-1].chunks), 0.2)
        turn = await _ask(caller, target.words.short)
        heard_well(caller, turn, *before)
        await target.settle()
        return heard_well(caller, turn, *before), _how_soon(turn)


def _how_soon(turn: CallTurn) -> str:
    assert turn.first_chunk_at is not None
    return f"after {shown_s(turn.first_chunk_at - turn.said_at)}"


# --- a bad network --------------------------------------------------------------------------------------------------


@case("reset-thinking", NETWORK, "goes on after a TCP reset before the first word", turns=2)
async def reset_thinking(target: Target) -> tuple[str, str]:
    habits = Habits(reset=Moment.BEFORE_ANSWER, reconnect=True)
    async with target.conversation(habits) as caller:
        caller.utter(target.silent_question)
        caller.model.habits = dataclasses.replace(habits, reset=None, reconnect=False)
        await until(caller, lambda: last_turn(caller).is_final, target.reply_timeout_s)
        return heard_well(caller, last_turn(caller)), "asked again over a new connection, and heard"


@case("reset-speaking", NETWORK, "goes on after a TCP reset while it speaks", turns=2)
async def reset_speaking(target: Target) -> tuple[str, str]:
    return await _reset(target, Moment.MID_ANSWER, target.words.long)


@case("reset-answered", NETWORK, "goes on after a TCP reset between two turns", turns=2)
async def reset_answered(target: Target) -> tuple[str, str]:
    return await _reset(target, Moment.AFTER_ANSWER, target.words.short)


async def _reset(target: Target, moment: Moment, text: str) -> tuple[str, str]:
    return await continue_after_break(target, Habits(reset=moment, reconnect=True), text)


async def continue_after_break(target: Target, habits: Habits, text: str) -> tuple[str, str]:
    """Let a habit break the connection, and check that the next question is heard over a new one.

    Raises:
        CaseFailed: it is not.
    """
    async with target.conversation(habits) as caller:
        turn = caller.utter(text)
        if not await until(
            caller, lambda: turn.is_interrupted or not caller.model.is_connected, target.reply_timeout_s
        ):
            raise CaseFailed(caller.verdict(turn).reason, turn.heard)
        caller.model.habits = Habits()
        if not await until(caller, lambda: caller.model.is_connected, 5.0):
            raise CaseFailed(f"no new connection: {caller.ended}", turn.heard)
        reply = await say(caller, target.words.short)
        return reply.text, "the next question was heard, over a new connection"


def _malformed(kind: Malformed, title: str) -> None:
    @case(kind.value.replace("_", "-"), NETWORK, title, turns=2)
    async def malformed(target: Target) -> tuple[str, str]:
        async with target.conversation(Habits(malformed=(kind,))) as caller:
            for _ in range(2):
                reply = await say(caller, target.words.short)
            return reply.text, "both questions were heard"


_malformed(Malformed.NO_JSON, "goes on after a message that is not JSON")
_malformed(Malformed.NOT_UTF8, "goes on after a binary message that is not UTF-8")
_malformed(Malformed.BAD_ENTRY, "goes on after an entry with content: null")
_malformed(Malformed.UNKNOWN_TYPE, "goes on after a message of an unknown type")


def _cut(name: str, title: str, habits: Habits, texts: Sequence[str]) -> None:
    @case(name, NETWORK, title, turns=len(texts))
    async def cut(target: Target) -> tuple[str, str]:
        async with target.conversation(habits) as caller:
            for text in texts:
                reply = await say(caller, getattr(target.words, text))
            return reply.text, f"{len(reply.text)} characters in {shown_count(len(reply.chunks), 'piece')}"


_cut("fragments", "reads messages in WebSocket fragments of 7 bytes", Habits(fragment_bytes=7), ["short", "short"])
_cut("segments", "reads frames cut into TCP segments of 5 bytes", Habits(segment_bytes=5), ["short", "short"])
_cut("slow-reader", "waits for a caller that reads 4 KB a second", Habits(slow_read_bytes_s=4000), ["long"])
