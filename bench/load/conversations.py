"""What the generator's conversations say: transcripts as the API sends them, and the answers they must get.

JSON with a blank after each colon and comma, as the live API writes it. All of a transcript but its last message and
its event id is built once: the generator must cost less than the servers it loads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from itertools import cycle, islice

from bench.load.targets.handler import WORDS

__all__ = ["Scenario", "Script", "expected_chunks"]

MAX_CHUNKS = len(WORDS)

_USER_LINES = (
    "I ordered a lamp last week and it has not arrived yet, can you check?",
    "The number is seven four one nine, I think, it was in the second mail.",
    "No, the other one. The one that I wanted to have sent to my office.",
    "And what would happen if nobody is there when they try to deliver it?",
)
_AGENT_LINES = (
    "Of course, I am happy to look that up. Could you tell me the order number, please?",
    "Thank you. I found an order with two items; the first left our warehouse on Monday morning.",
    "I see. That one is still waiting for its second parcel, and both should go out tomorrow.",
    "Then the courier leaves a card, and you may pick it up or ask for another day online.",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load: chunks per answer, and messages per transcript, the new one included.

    With `trickle` the answer's stream suspends before each chunk; 0 or 1, as the generator's options are numbers.
    """

    chunks: int
    history: int
    conversations: int = 100
    trickle: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.chunks <= MAX_CHUNKS:
            raise ValueError(f"chunks must be 1 to {MAX_CHUNKS}, not {self.chunks}")
        if self.history < 1 or self.conversations < 1:
            raise ValueError("a scenario needs at least one message and one conversation")

    def options(self) -> list[str]:
        """Return the generator's command line options for this scenario."""
        return [f"--{field.name}={getattr(self, field.name)}" for field in fields(self)]

    def __str__(self) -> str:
        chunks = "1 chunk" if self.chunks == 1 else f"{self.chunks} chunks"
        return f"{chunks}{' trickling' * self.trickle}, {self.history} messages"


def expected_chunks(scenario: Scenario, tag: str) -> list[str]:
    """Return the texts, in order, that a correct server sends for the question tagged `tag`."""
    return [tag, *WORDS[1 : scenario.chunks]]


class Script:
    """The transcripts of one conversation: the same history every turn, then a new question."""

    def __init__(self, scenario: Scenario, number: int) -> None:
        old = scenario.history - 1
        # The newest message is the user's, so the roles count back from it; each conversation starts elsewhere.
        users = islice(cycle(_USER_LINES), number % len(_USER_LINES), None)
        agents = islice(cycle(_AGENT_LINES), number % len(_AGENT_LINES), None)
        messages = [
            {"role": "user", "content": next(users)}
            if (old - i) % 2 == 0
            else {"role": "agent", "content": next(agents)}
            for i in range(old)
        ]
        self.number = number
        history = "".join(json.dumps(message) + ", " for message in messages)
        self._before_tag = (
            f'{{"type": "user_transcript", "user_transcript": [{history}'
            f'{{"role": "user", "content": "{scenario.chunks} '
        ).encode()
        said = b" trickle:" if scenario.trickle else b""
        self._before_id = said + b' so when will it be at my door?"}], "event_id": '

    def tag(self, event_id: int) -> str:
        """Return the word that the answer to this turn starts with, and to no other."""
        return f"c{self.number}e{event_id}"

    def transcript(self, event_id: int) -> bytes:
        """Return the `user_transcript` message of one turn."""
        return b"%b%b%b%d}" % (self._before_tag, self.tag(event_id).encode(), self._before_id, event_id)

    def init(self) -> bytes:
        """Return the `init` message."""
        return json.dumps({"type": "init", "conversation_id": f"conv_bench_{self.number}"}).encode()
