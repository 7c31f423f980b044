"""Cases of ordinary conversations: questions, keep-alives, tokens and closing."""

from __future__ import annotations

import asyncio

import jwt

from se_server.auth import AUTHORIZATION_HEADER, ISSUER, SUBJECT, sign_token
from se_server.doctor.cases import case
from se_server.doctor.probe import NoHttp, ask_upgrade
from se_server.doctor.results import CaseFailed, NotTested, Warned, shown_s
from se_server.doctor.target import CASCADE_TIMEOUT_S, Target, first_chunk, say
from se_server.simulator.caller import Caller

CONVERSATION, DOOR = "Conversation", "Door"
LATE_PONG_S = 0.5
CLOSE_S = 2.0


@case("question", CONVERSATION, "answers a question, before the API asks again", turns=1)
async def question(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        reply = await say(caller, target.words.short)
    assert reply.first_word_s is not None
    target.first_word_s = reply.first_word_s
    if reply.first_word_s > CASCADE_TIMEOUT_S:
        raise CaseFailed(
            f"the first word came after {shown_s(reply.first_word_s)}; without one the API asks again every"
            f" {CASCADE_TIMEOUT_S:g} s, and ends the conversation after three tries: answer sooner, or raise"
            " the engine's cascade_timeout_seconds",
            reply.text,
        )
    return reply.text, f"after {shown_s(reply.first_word_s)}"


@case("turns", CONVERSATION, "answers each question in its turn, under its id", turns=3)
async def turns(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        for _ in range(3):
            reply = await say(caller, target.words.short)
        ids = ", ".join(str(turn.event_id) for turn in caller.model.turns)
        return reply.text, f"each under its own id: {ids}"


@case("pong", CONVERSATION, "answers a ping when nobody speaks", turns=0)
async def pong(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        return "", _in_time(await caller.ping())


@case("pong-thinking", CONVERSATION, "answers a ping while the agent thinks", turns=1)
async def pong_thinking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        silence_s = target.silence_s
        turn = caller.utter(target.silent_question)
        await asyncio.sleep(silence_s / 2)
        if turn.chunks:
            raise NotTested(f"the first word was there after {shown_s(caller.now - turn.said_at)}")
        return "", _in_time(await caller.ping())


@case("pong-speaking", CONVERSATION, "answers a ping while an answer streams", turns=1)
async def pong_speaking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        turn = caller.utter(target.words.long)
        await first_chunk(caller, turn)
        return turn.heard, _in_time(await caller.ping())


@case("goodbye", CONVERSATION, "answers the close handshake", turns=1)
async def goodbye(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        reply = await say(caller, target.words.short)
        return await hang_up(caller, reply.text)


@case("goodbye-speaking", CONVERSATION, "answers the close handshake while it speaks", turns=1)
async def goodbye_speaking(target: Target) -> tuple[str, str]:
    async with target.conversation() as caller:
        turn = caller.utter(target.words.long)
        await first_chunk(caller, turn)
        return await hang_up(caller, turn.heard)


async def hang_up(caller: Caller, heard: str) -> tuple[str, str]:
    """Begin the close handshake and check that the server answers it.

    Raises:
        CaseFailed: the server did not answer in time.
    """
    began = caller.now
    await caller.close(timeout_s=CLOSE_S)
    assert caller.ended is not None
    if not caller.ended.is_clean:
        raise CaseFailed(f"no CLOSE came within {shown_s(caller.now - began)}", heard)
    return heard, f"closed after {shown_s(caller.now - began)}"


def _in_time(waited_s: float) -> str:
    if waited_s > LATE_PONG_S:
        raise CaseFailed(f"the pong came after {shown_s(waited_s)}")
    return f"pong after {shown_s(waited_s)}"


# --- the door -------------------------------------------------------------------------------------------------------


async def _refused(target: Target, token: str | None, what: str) -> tuple[str, str]:
    headers = {**target.headers, **({} if token is None else {AUTHORIZATION_HEADER: token})}
    try:
        answer = await ask_upgrade(target.address, headers, timeout_s=5.0)
    except (OSError, asyncio.TimeoutError, NoHttp) as error:
        raise CaseFailed(f"no answer ({error or 'timeout'})") from None
    if answer.status == 101:
        if token is not None and await _takes_everybody(target):
            raise Warned("authentication is off: any token is accepted")
        raise (Warned if token is None else CaseFailed)(f"{what} was accepted")
    return "", f"refused with {answer.status}"


async def _takes_everybody(target: Target) -> bool:
    try:
        return (await ask_upgrade(target.address, target.headers, timeout_s=5.0)).status == 101
    except (OSError, asyncio.TimeoutError, NoHttp):
        return False


@case("no-token", DOOR, "refuses a caller without a token", turns=0)
async def no_token(target: Target) -> tuple[str, str]:
    return await _refused(target, None, "a caller without a token")


@case("foreign-token", DOOR, "refuses a token signed with another key", turns=0)
async def foreign_token(target: Target) -> tuple[str, str]:
    return await _refused(target, sign_token("sk_a_key_that_is_nobodys"), "a token signed with another key")


@case("expired-token", DOOR, "refuses an expired token", turns=0)
async def expired_token(target: Target) -> tuple[str, str]:
    token = sign_token(target.api_key, iat=1_500_000_000, exp=1_500_000_300)
    return await _refused(target, token, "a token that expired in 2017")


@case("unsigned-token", DOOR, "refuses a token without a signature (alg none)", turns=0)
async def unsigned_token(target: Target) -> tuple[str, str]:
    claims = {"iss": ISSUER, "sub": SUBJECT, "iat": 1_500_000_000, "exp": 4_000_000_000}
    return await _refused(target, jwt.encode(claims, "", algorithm="none"), "an unsigned token")


__all__ = ["CONVERSATION", "DOOR", "LATE_PONG_S", "hang_up"]
