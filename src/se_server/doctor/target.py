"""The server under examination, the words for its agent, and steps that several cases share."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from se_server.address import Address
from se_server.client_tls import SYSTEM_TLS, ClientTls
from se_server.doctor.readings import Reading
from se_server.doctor.results import CaseFailed, NotTested, shown_count, shown_s
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn
from se_server.simulator.conversation import Reply
from se_server.simulator.habits import CASCADE_TIMEOUT_S, Habits
from se_server.simulator.judge import Outcome

LEFT_S = 0.1  # a change within the last 0.1 s of an answer decides nothing
LONGEST_SETTLE_S = 4.0


@dataclass(frozen=True)
class Words:
    """The words that are said to an agent.

    Attributes:
        short: a request for a short answer.
        long: a request for a long answer, which arrives in pieces over some seconds.
        silent: a request for an answer after about two seconds of silence; None if there is no such request.
        does_on_request: whether the agent is the reference agent, which fails, delays and ignores cancellation on
            request.
    """

    short: str = "Hello, can you hear me?"
    long: str = "Please tell me a long story."
    silent: str | None = None
    does_on_request: bool = False


REFERENCE_WORDS = Words(silent="Please think for 2 seconds.", does_on_request=True)


@dataclass
class Target:
    """The server under examination.

    Attributes:
        url: the server's URL.
        address: the parsed URL.
        api_key: the key that signs the tokens.
        headers: further headers of each upgrade.
        words: the words for its agent.
        quiet_s: the length of a quiet conversation, in seconds.
        reply_timeout_s: the longest silence before a complete answer, in seconds.
        seed: the seed of random decisions.
        first_word_s: the silence before its answers, as far as known, in seconds.
        tls: the certificates for `wss://`.
        connect_timeout_s: the longest wait for a connection, and again for the upgrade, in seconds.
        reading: the reading of the API under which conversations are held; None for the most lenient.
    """

    url: str
    api_key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    words: Words = Words()
    quiet_s: float = 25.0
    reply_timeout_s: float = 20.0
    seed: int = 0
    first_word_s: float = 0.0
    reading: Reading | None = None
    tls: ClientTls = SYSTEM_TLS
    connect_timeout_s: float = 5.0

    @property
    def address(self) -> Address:
        return Address.of(self.url)

    @asynccontextmanager
    async def conversation(
        self, habits: Habits | None = None, conversation_id: str | None = None
    ) -> AsyncIterator[Caller]:
        """Hold a conversation with the server; random decisions depend on the id, by default a fresh one."""
        if self.reading is not None:
            habits = dataclasses.replace(habits or Habits(), **self.reading.switches)  # type: ignore[arg-type]
        async with Caller.connect(
            self.url,
            api_key=self.api_key,
            headers=self.headers,
            conversation_id=conversation_id,
            habits=habits,
            connect_timeout_s=self.connect_timeout_s,
            reply_timeout_s=self.reply_timeout_s,
            ssl_context=self.tls.context() if self.address.is_tls else None,
        ) as caller:
            yield caller

    @property
    def silence_s(self) -> float:
        """A time within which an answer to `silent_question` does not begin, in seconds.

        Raises:
            NotTested: the agent answers at once, which leaves no time.
        """
        if self.words.silent is not None:
            return 0.5
        if self.first_word_s < 0.1:
            raise NotTested(f"the first word comes after {shown_s(self.first_word_s)}, before anything can happen")
        return self.first_word_s * 0.3

    @property
    def silent_question(self) -> str:
        """The question that this agent answers after the longest silence."""
        return self.words.silent or self.words.long

    async def settle(self) -> None:
        """Give the server time for faults that appear late."""
        await asyncio.sleep(min(LONGEST_SETTLE_S, 1.0 + 2 * self.first_word_s))


async def first_chunk(caller: Caller, turn: CallTurn) -> None:
    """Wait until the answer has begun.

    Raises:
        NotTested: the answer was already complete.
    """
    while not turn.chunks and turn.is_answering:
        await caller.event("answer")
    if turn.is_interrupted:
        raise CaseFailed(caller.verdict(turn).reason, turn.heard)
    if turn.is_final:
        raise NotTested(f"the answer was complete after {shown_s(_complete_s(turn))}, in {_pieces(turn)}")


async def until(caller: Caller, is_there: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until a condition holds, while the conversation goes on; return whether it held in time."""
    deadline = caller.now + timeout_s
    while not is_there():
        if caller.now >= deadline or caller.ended is not None:
            return False
        await caller.event("answer", min(deadline, caller.now + 1.0))
    return True


def had_more_to_say(caller: Caller, turn: CallTurn, since: float) -> None:
    """Check that the answer was long enough to decide the case.

    Args:
        caller: the conversation.
        turn: the turn with the complete answer.
        since: the time of the disturbance, in seconds of the conversation's clock.

    Raises:
        NotTested: the answer was complete so soon that the disturbance may have come too late.
    """
    if turn.final_at is not None and turn.final_at - since < LEFT_S:
        raise NotTested(
            f"the answer was complete after {shown_s(_complete_s(turn))}, before the server could have noticed"
        )


def heard_well(caller: Caller, turn: CallTurn, *also: CallTurn) -> str:
    """Check that the last turn was heard completely, and that the conversation has no fault.

    Returns:
        The words that the caller heard in the last turn.

    Raises:
        CaseFailed: something is wrong; the text is the caller's verdict.
    """
    for each in (turn, *also):
        verdict = caller.verdict(each)
        if not verdict.is_ok:
            raise CaseFailed(verdict.reason, verdict.heard)
    verdict = caller.verdict(turn)
    if verdict.outcome is not Outcome.HEARD:
        raise CaseFailed(verdict.reason, verdict.heard)
    if caller.model.violations:
        raise CaseFailed(f"{caller.model.violations} messages broke the protocol", verdict.heard)
    return verdict.heard


def last_turn(caller: Caller) -> CallTurn:
    """Return the newest turn."""
    turn = caller.model.turn
    assert turn is not None
    return turn


async def say(caller: Caller, text: str) -> Reply:
    """Say something, hear the whole answer, and check that it has no fault.

    Raises:
        CaseFailed: something is wrong; the text is the caller's verdict.
    """
    try:
        reply = await caller.say(text)
    except CallerError as error:
        turn = caller.model.turn
        why = str(error) if turn is None or turn.is_answering else caller.verdict(turn).reason
        raise CaseFailed(why, caller.heard) from None
    heard_well(caller, last_turn(caller))
    return reply


def _complete_s(turn: CallTurn) -> float:
    end = turn.final_at if turn.final_at is not None else turn.interrupted_at
    return 0.0 if end is None else end - turn.said_at


def _pieces(turn: CallTurn) -> str:
    return shown_count(len(turn.chunks), "piece")


__all__ = [
    "CASCADE_TIMEOUT_S",
    "REFERENCE_WORDS",
    "Target",
    "Words",
    "first_chunk",
    "had_more_to_say",
    "heard_well",
    "last_turn",
    "say",
    "until",
]
