"""The plan of a load generator: conversations, rates, histories and thresholds of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from se_server.errors import ConfigError

__all__ = ["PROFILES", "LoadPlan", "Profile"]

Profile = tuple[tuple[float, float], ...]
"""Points (share of the time, share of the load), both from 0 to 1, joined by straight lines."""

PROFILES: dict[str, Profile] = {
    "steady": ((0.0, 1.0), (1.0, 1.0)),
    "ramp": ((0.0, 0.0), (0.8, 1.0), (1.0, 1.0)),
    "spike": ((0.0, 0.25), (0.4, 0.25), (0.4, 1.0), (0.6, 1.0), (0.6, 0.25), (1.0, 0.25)),
    "soak": ((0.0, 1.0), (1.0, 1.0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """The task of one generator process.

    Attributes:
        url: the server's WebSocket, `ws://` or `wss://`.
        api_key: the key that signs the tokens of the upgrades; a token is reused and renewed in time. None sends no
            token.
        headers: further headers of each upgrade.
        conversations: the number of concurrent conversations.
        turns_per_s: open loop: turns of all conversations together, on a schedule that does not wait for the server;
            latency counts from the scheduled time. None selects a closed loop: each answer is followed by the next
            question.
        think_s: closed loop: the mean pause between an answer and the next question; drawn from half to one and a half
            times this value.
        history: the constant number of messages in each transcript, the new one included. None grows it by two a turn.
        max_history: growing history: the number of messages at which a transcript starts over.
        is_staggered: growing history: the first transcripts have all lengths, as on a server that has run for long.
        interruption_rate: the share of turns that the user interrupts: the next transcript is sent during the answer if
            it is still arriving, and the history keeps only a part of the answer.
        resend_after_s: repeat a transcript without an answer after this time, at most twice; None never does.
        chunks: for the benchmark's handler: the question starts with "CHUNKS TAG ", and the answer must be TAG and have
            this many texts in all. None accepts any answer.
        pause: with `chunks`: ask the handler to suspend before each text.
        expected_words: with `chunks`: the expected texts of an answer, checked in one turn of 16.
        may_join: with `chunks`: the texts may come joined, so only the number of their bytes is checked.
        profile: the share of the load over the time of a run.
        call_s: the mean length of a conversation, which then hangs up and calls again; drawn from half to one and a
            half times this value. None never hangs up.
        reconnects: whether conversations that were cut or never answered call again.
        source_addresses: local addresses to connect from, in rotation: one has about 28,000 ports.
        spins: poll without sleeping: the kernel wakes sleepers 0.1 ms late, at times several milliseconds, and the
            delay would be attributed to the server. It requires a core of its own; the CPU time of polling is not
            counted.
        insecure: do not verify the certificate.
        cafile: certificates to trust, instead of the system's.
        cert, key: the certificate to show to a server that requires one, and its key.
        first_number: the number of the first conversation, which keeps the processes' conversations distinct.
        seed: the seed of random decisions.
    """

    url: str
    api_key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    conversations: int = 100
    turns_per_s: float | None = None
    think_s: float = 0.0
    history: int | None = None
    max_history: int = 200
    is_staggered: bool = False
    interruption_rate: float = 0.0
    resend_after_s: float | None = 4.0
    chunks: int | None = None
    pause: bool = False
    expected_words: tuple[str, ...] = ()
    may_join: bool = False
    profile: Profile = PROFILES["steady"]
    call_s: float | None = None
    reconnects: bool = False
    source_addresses: tuple[str, ...] = ()
    spins: bool = False
    insecure: bool = False
    cafile: str | None = None
    cert: str | None = None
    key: str | None = None
    first_number: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate the values.

        Raises:
            ConfigError: a value is out of its range.
        """
        positive = {"conversations": self.conversations, "max_history": self.max_history}
        for name in ("turns_per_s", "history", "resend_after_s", "chunks", "call_s"):
            if (value := getattr(self, name)) is not None:
                positive[name] = value
        for name, value in positive.items():
            if not (0 < value < math.inf):
                raise ConfigError(f"{name} must be above 0, not {value}")
        if not 0 <= self.think_s < math.inf:
            raise ConfigError(f"think_s must be 0 or more, not {self.think_s}")
        if not 0 <= self.interruption_rate <= 1:
            raise ConfigError(f"interruption_rate must be 0 to 1, not {self.interruption_rate}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoadPlan:
        """Create a plan from the output of `dataclasses.asdict`, also after a round trip through JSON."""
        return cls(**{field.name: _frozen(values[field.name]) for field in fields(cls) if field.name in values})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
