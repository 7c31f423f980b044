"""Cases of answers that get lost, are empty or come in parts, of silence, and of the end of a conversation."""

from __future__ import annotations

import asyncio
import secrets

from se_server.doctor.cases import case
from se_server.doctor.habit_cases import continue_after_break
from se_server.doctor.readings import AFTER_FINAL, EMPTY, WORDLESS
from se_server.doctor.results import CaseFailed, NotTested, shown_s
from se_server.doctor.target import Target, first_chunk, heard_well, last_turn, say, until
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn
from se_server.simulator.habits import Goodbye, Habits, Silence
from se_server.simulator.utterances import LAST_WORDS

ANSWERS, SILENCE, END = "Answers", "Silence", "The end of a conversation"
LOST_AGAIN_S = 1.5  # an answer that was lost cannot be told from one that crossed the question any sooner
TOOL_S = 13
SILENCE_AFTER_S = 0.5
MAX_ASKS = 12


# --- answers --------------------------------------------------------------------------------------------------------


@case("lost-answer", ANSWERS, "answers again when its answer got lost", turns=2)
async def lost_answer(target: Target) -> tuple[str, str]:
    habits = Habits(loses_answer=True, resend_after_s=LOST_AGAIN_S, max_tries=100)
    async with target.conversation(habits) as caller:
        turn = caller.utter(target.words.short)
        if not await until(caller, lambda: turn.is_final, target.reply_timeout_s):
            raise CaseFailed("the answer was lost on the API's side, and did not come again", turn.heard)
        return heard_well(caller, turn), f"asked {len(turn.asks[-1].sent_at)} times, heard once"


@case("tool-call", ANSWERS, "answers after a stream that only calls a tool", turns=1, needs_reference=True,
      readings=(AFTER_FINAL,))  # fmt: skip
async def tool_call(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        return await _hear_all(target, caller.utter("Use a tool for 1 second."), "The tool is done.", caller)


@case("tool-long", ANSWERS, f"keeps a conversation through a tool call of {TOOL_S} s", turns=1, needs_reference=True,
      readings=(EMPTY, WORDLESS))  # fmt: skip
async def tool_long(target: Target) -> tuple[str, str]:
    async with target.conversation(Habits.live()) as caller:
        turn = caller.utter(f"Use a tool for {TOOL_S} seconds.")
        try:
            while "The tool is done." not in turn.heard:
                await caller.event("answer")
        except CallerError:
            raise CaseFailed(caller.verdict(turn).reason, turn.heard) from None
        assert turn.first_chunk_at is not None
        return turn.heard, f"heard after {shown_s(turn.first_chunk_at - turn.said_at)}"


@case("two-parts", ANSWERS, "has both parts of an answer heard", turns=1, needs_reference=True,
      readings=(AFTER_FINAL,))  # fmt: skip
async def two_parts(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        return await _hear_all(target, caller.utter("Answer in two parts."), "This is the second part.", caller)


async def _hear_all(target: Target, turn: CallTurn, end: str, caller: Caller) -> tuple[str, str]:
    await until(caller, lambda: end in turn.heard or bool(turn.after_final), target.reply_timeout_s)
    if end not in turn.heard:
        raise CaseFailed(caller.verdict(turn).reason, turn.heard)
    assert turn.first_chunk_at is not None
    return turn.heard, f"heard after {shown_s(turn.first_chunk_at - turn.said_at)}"


# --- silence --------------------------------------------------------------------------------------------------------


def _silent(name: str, silence: Silence, title: str) -> None:
    @case(name, SILENCE, title, turns=3, readings=(EMPTY,))
    async def silent(target: Target) -> tuple[str, str]:
        async with target.conversation(Habits(silence=silence, silence_after_s=SILENCE_AFTER_S)) as caller:
            await say(caller, target.words.short)
            try:
                await caller.quiet()
            except CallerError as error:
                raise CaseFailed(str(error), caller.heard) from None
            turn = last_turn(caller)
            verdict = caller.verdict(turn)
            if not turn.is_silence:
                raise NotTested("the conversation went on before the user could be silent")
            if not verdict.is_ok:
                raise CaseFailed(verdict.reason, turn.heard)
            reply = await say(caller, target.words.short)
        return reply.text, f"it {'spoke' if turn.chunks else 'stayed silent'}, and answered the next question"


_silent("silence-dots", Silence.DOTS, "goes on after a silence that is transcribed as ...")
_silent("silence-ellipsis", Silence.ELLIPSIS, "goes on after a silence that is transcribed as \u2026")
_silent("silence-dot", Silence.DOT, "goes on after a silence that is transcribed as a dot")
_silent("silence-agent", Silence.AGENT_LAST, "goes on after a history that ends with the agent")


# --- the end --------------------------------------------------------------------------------------------------------


@case("error-drop", END, "goes on after an error message and a lost connection", turns=2)
async def error_drop(target: Target) -> tuple[str, str]:
    habits = Habits(reconnect=True, drop_error="the connection is going to be dropped")
    return await continue_after_break(target, habits, target.words.short)


@case("hang-up-drop", END, "ends the handler of a caller whose connection is lost", turns=4, needs_reference=True)
async def hang_up_drop(target: Target) -> tuple[str, str]:
    conversation_id = f"conv_doctor_{secrets.token_hex(8)}"
    async with target.conversation(Habits(goodbye=Goodbye.DROP), conversation_id) as caller:
        turn = caller.utter(target.words.long)
        await first_chunk(caller, turn)
    answer = ""
    for _ in range(4):
        await asyncio.sleep(0.25)
        answer = await _became_of(target, conversation_id)
        if "0 handlers" in answer:
            return turn.heard, "the agent says so"
    raise CaseFailed("the handler still runs a second after the caller was gone", answer)


@case("last-words", END, "hands on the words that come together with the end", turns=3, needs_reference=True)
async def last_words(target: Target) -> tuple[str, str]:
    conversation_id = f"conv_doctor_{secrets.token_hex(8)}"
    async with target.conversation(Habits(goodbye=Goodbye.LAST_WORDS), conversation_id) as caller:
        await say(caller, target.words.short)
    answer = await _became_of(target, conversation_id)
    if LAST_WORDS not in answer:
        raise CaseFailed("the last transcript came in one packet with the end, and no handler saw it", answer)
    return answer, "the agent says so"


async def _became_of(target: Target, conversation_id: str) -> str:
    """Ask the agent in another conversation.

    Raises:
        NotTested: the agent that answers does not know the conversation.
    """
    for _ in range(MAX_ASKS):  # each worker of a server has an agent of its own
        async with target.conversation() as caller:
            answer = (await say(caller, f"What became of {conversation_id}?")).text
        if "I do not know it" not in answer:
            return answer
    raise NotTested("the agent that answers does not know the conversation: run the server with one worker")
