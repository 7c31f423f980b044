"""The cases of the live API's habits, each alone: it asks again, transcribes again, interrupts, breaks off."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from se_server.doctor.cases import case
from se_server.doctor.results import CaseFailed, NotTested, shown_count, shown_s
from se_server.doctor.target import (
    Patient,
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
async def again_thinking(patient: Patient) -> tuple[str, str]:
    async with patient.call(Habits(resend_after_s=patient.silence_s, max_tries=100)) as caller:
        turn = await _ask(caller, patient.silent_question)
        tries = len(turn.asks[-1].sent_at)
        if tries < 2:
            raise NotTested(
                f"the first word was there before the API could ask again, after {shown_s(patient.silence_s)}"
            )
        heard = heard_well(caller, turn)
        await _is_answered_once(patient, caller, turn)
        return heard, f"asked {tries} times, heard once"


@case("again-speaking", AGAIN, "goes on when asked again while it speaks", turns=1)
async def again_speaking(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        turn = caller.utter(patient.words.long)
        await first_chunk(caller, turn)
        since = caller.now
        caller.replay(turn.asks[-1].message)
        await caller.answered(turn)
        heard = heard_well(caller, turn)
        had_more_to_say(caller, turn, since)
        await _is_answered_once(patient, caller, turn)
        return heard, "asked twice, heard once"


@case("again-answered", AGAIN, "does not answer again what it has answered", turns=1)
async def again_answered(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        reply = await say(caller, patient.words.short)
        turn = last_turn(caller)
        caller.replay(turn.asks[-1].message)
        await _is_answered_once(patient, caller, turn)
        return reply.text, "asked twice, answered once"


@case("older-thinking", AGAIN, "goes on when an older id comes before its first word", turns=2)
async def older_thinking(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        silence_s = patient.silence_s
        await say(caller, patient.words.short)
        older = last_turn(caller)
        turn = caller.utter(patient.silent_question)
        await asyncio.sleep(silence_s / 2)
        if turn.chunks:
            raise NotTested("the first word was there before the older id could come again")
        return await _older_again(patient, caller, older, turn)


@case("older-speaking", AGAIN, "goes on when the interrupted id comes again", turns=2)
async def older_speaking(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        older = caller.utter(patient.words.long)
        await first_chunk(caller, older)
        turn = caller.utter(patient.words.long)
        await first_chunk(caller, turn)
        since = caller.now
        heard, why = await _older_again(patient, caller, older, turn)
        had_more_to_say(caller, turn, since)
        return heard, why


@case("older-answered", AGAIN, "does nothing when an answered older id comes again", turns=2)
async def older_answered(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        await say(caller, patient.words.short)
        older = last_turn(caller)
        await say(caller, patient.words.short)
        return await _older_again(patient, caller, older, last_turn(caller))


@case("two-ids", AGAIN, "answers under the second of two ids for a pause", turns=2)
async def two_ids(patient: Patient) -> tuple[str, str]:
    return await _several_ids(patient, 1, Wording.PUNCTUATION)


@case("three-ids", AGAIN, "answers under the third of three ids for a pause", turns=3)
async def three_ids(patient: Patient) -> tuple[str, str]:
    return await _several_ids(patient, 2, Wording.PUNCTUATION)


@case("growing-words", AGAIN, "answers the whole of what comes in three parts", turns=3)
async def growing_words(patient: Patient) -> tuple[str, str]:
    return await _several_ids(patient, 2, Wording.GROWING)


async def _ask(caller: Caller, text: str) -> CallTurn:
    turn = caller.utter(text)
    try:
        await caller.answered(turn)
    except CallerError as error:
        raise CaseFailed(f"{caller.verdict(turn).reason}; {error}", turn.heard) from None
    return turn


async def _is_answered_once(patient: Patient, caller: Caller, turn: CallTurn) -> None:
    """Find that nothing more comes for a turn that was answered."""
    repeated = await until(caller, lambda: caller.verdict(turn).is_billed_twice, 0.5 + 2 * patient.first_word_s)
    await patient.settle()
    if repeated or caller.verdict(turn).is_billed_twice:
        times = sum(bool(answer) for ask in turn.asks for answer in ask.answers)
        raise CaseFailed(f"the handler ran again: {times} answers to one question, and two bills", turn.heard)
    heard_well(caller, turn)


async def _older_again(patient: Patient, caller: Caller, older: CallTurn, turn: CallTurn) -> tuple[str, str]:
    ask = older.asks[-1]
    answered_before = len(ask.text)
    caller.replay(ask.message)
    try:
        await caller.answered(turn)
    except CallerError:
        raise CaseFailed(caller.verdict(turn).reason, turn.heard) from None
    heard = heard_well(caller, turn)
    await patient.settle()
    late = ask.text[answered_before:]
    if late and older.final_at is not None:
        raise CaseFailed(
            f"the handler ran again for id {ask.event_id}, and nobody hears it: {len(late)} characters", heard
        )
    heard_well(caller, turn)
    return heard, f"id {ask.event_id} came again, {turn.event_id} was heard"


async def _several_ids(patient: Patient, extra: int, wording: Wording) -> tuple[str, str]:
    try:
        gap_s, text = min(0.5, patient.silence_s), patient.silent_question
    except NotTested:  # an agent that answers at once gets the further ids while it speaks
        gap_s, text = SPEAKING_GAP_S, patient.words.long
    habits = Habits(extra_ids=extra, extra_id_after_s=gap_s, wording=wording)
    async with patient.call(habits) as caller:
        turn = await _ask(caller, text)
        if len(turn.asks) < extra + 1:
            raise NotTested("the answer was there before the API could transcribe again")
        heard = heard_well(caller, turn)
        ids = ", ".join(str(ask.event_id) for ask in turn.asks)
        twice = ", two answers were begun" if caller.verdict(turn).is_billed_twice else ""
        return heard, f"ids {ids}; heard under {turn.event_id}{twice}"


# --- interruptions --------------------------------------------------------------------------------------------------


@case("interrupts-thinking", INTERRUPTIONS, "answers the second of two questions in one breath", turns=2)
async def interrupts_thinking(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        first = caller.utter(patient.silent_question)
        turn = await _ask(caller, patient.words.short)
        heard = heard_well(caller, turn, first)
        await patient.settle()
        return heard_well(caller, turn, first) or heard, _how_soon(turn)


@case("interrupts-speaking", INTERRUPTIONS, "stops when it is interrupted, and answers", turns=2)
async def interrupts_speaking(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        first = caller.utter(patient.words.long)
        await first_chunk(caller, first)
        turn = await _ask(caller, patient.words.short)
        heard_well(caller, turn, first)
        await patient.settle()
        return heard_well(caller, turn, first), f"{len(first.heard)} characters, then the next answer {_how_soon(turn)}"


@case("interrupts-often", INTERRUPTIONS, "answers the last of five questions at once", turns=5)
async def interrupts_often(patient: Patient) -> tuple[str, str]:
    async with patient.call() as caller:
        before = []
        for _ in range(4):
            before.append(caller.utter(patient.words.long))
            await until(caller, lambda: bool(before[-1].chunks), 0.2)
        turn = await _ask(caller, patient.words.short)
        heard_well(caller, turn, *before)
        await patient.settle()
        return heard_well(caller, turn, *before), _how_soon(turn)


def _how_soon(turn: CallTurn) -> str:
    assert turn.first_chunk_at is not None
    return f"after {shown_s(turn.first_chunk_at - turn.said_at)}"


# --- a bad network --------------------------------------------------------------------------------------------------


@case("reset-thinking", NETWORK, "goes on after a TCP reset before the first word", turns=2)
async def reset_thinking(patient: Patient) -> tuple[str, str]:
    habits = Habits(reset=Moment.BEFORE_ANSWER, reconnect=True)
    async with patient.call(habits) as caller:
        caller.utter(patient.silent_question)
        caller.model.habits = dataclasses.replace(habits, reset=None, reconnect=False)
        await until(caller, lambda: last_turn(caller).is_final, patient.reply_timeout_s)
        return heard_well(caller, last_turn(caller)), "asked again over a new connection, and heard"


@case("reset-speaking", NETWORK, "goes on after a TCP reset while it speaks", turns=2)
async def reset_speaking(patient: Patient) -> tuple[str, str]:
    return await _reset(patient, Moment.MID_ANSWER, patient.words.long)


@case("reset-answered", NETWORK, "goes on after a TCP reset between two turns", turns=2)
async def reset_answered(patient: Patient) -> tuple[str, str]:
    return await _reset(patient, Moment.AFTER_ANSWER, patient.words.short)


async def _reset(patient: Patient, moment: Moment, text: str) -> tuple[str, str]:
    habits = Habits(reset=moment, reconnect=True)
    async with patient.call(habits) as caller:
        turn = caller.utter(text)
        if not await until(
            caller, lambda: turn.is_interrupted or not caller.model.is_connected, patient.reply_timeout_s
        ):
            raise CaseFailed(caller.verdict(turn).reason, turn.heard)
        caller.model.habits = Habits()
        if not await until(caller, lambda: caller.model.is_connected, 5.0):
            raise CaseFailed(f"no new connection: {caller.ended}", turn.heard)
        reply = await say(caller, patient.words.short)
        return reply.text, "the next question was heard, over a new connection"


def _malformed(kind: Malformed, title: str) -> None:
    @case(kind.value.replace("_", "-"), NETWORK, title, turns=2)
    async def malformed(patient: Patient) -> tuple[str, str]:
        async with patient.call(Habits(malformed=(kind,))) as caller:
            for _ in range(2):
                reply = await say(caller, patient.words.short)
            return reply.text, "both questions were heard"


_malformed(Malformed.NO_JSON, "goes on after a message that is no JSON")
_malformed(Malformed.NOT_UTF8, "goes on after a binary message that is no UTF-8")
_malformed(Malformed.BAD_ENTRY, "goes on after an entry with content: null")
_malformed(Malformed.UNKNOWN_TYPE, "goes on after a message of a type it does not know")


def _cut(name: str, title: str, habits: Habits, texts: Sequence[str]) -> None:
    @case(name, NETWORK, title, turns=len(texts))
    async def cut(patient: Patient) -> tuple[str, str]:
        async with patient.call(habits) as caller:
            for text in texts:
                reply = await say(caller, getattr(patient.words, text))
            return reply.text, f"{len(reply.text)} characters in {shown_count(len(reply.chunks), 'piece')}"


_cut("fragments", "reads messages in WebSocket fragments of 7 bytes", Habits(fragment_bytes=7), ["short", "short"])
_cut("segments", "reads frames cut into TCP segments of 5 bytes", Habits(segment_bytes=5), ["short", "short"])
_cut("slow-reader", "waits for a caller that reads 4 KB a second", Habits(slow_read_bytes_s=4000), ["long"])
