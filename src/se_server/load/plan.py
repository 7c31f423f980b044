"""What a load generator is to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from se_server.errors import ConfigError

__all__ = ["PROFILES", "LoadPlan", "Profile"]

Profile = tuple[tuple[float, float], ...]
"""Points (share of the time, share of the load), both from 0 to 1, with straight lines in between."""

PROFILES: dict[str, Profile] = {
    "steady": ((0.0, 1.0), (1.0, 1.0)),
    "ramp": ((0.0, 0.0), (0.8, 1.0), (1.0, 1.0)),
    "spike": ((0.0, 0.25), (0.4, 0.25), (0.4, 1.0), (0.6, 1.0), (0.6, 0.25), (1.0, 0.25)),
    "soak": ((0.0, 1.0), (1.0, 1.0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What one generator process does.

    Attributes:
        url: the server's WebSocket, `ws://` or `wss://`.
        api_key: signs the token of the upgrades: one for many, renewed in time. None sends none.
        headers: further headers of each upgrade.
        conversations: how many are held at once.
        turns_per_s: open loop: turns of all conversations together, on schedule whatever the server does; latency
            counts from the scheduled moment. None is a closed loop: who has an answer asks the next.
        think_s: closed loop: the pause between an answer and the next question, half to one and a half times this.
        history: messages of every transcript, the new one included; always the same. None lets it grow by two a turn.
        max_history: growing: where a transcript starts over.
        is_staggered: growing: the first transcripts are of all lengths, as on a server that runs for long.
        interruption_rate: the share of turns in which the user interrupts: the next transcript comes during the
            answer if it is still being sent, and has it cut short in any case.
        resend_after_s: a transcript without an answer is sent again after this time, twice at most; None never.
        chunks: for servers with the benchmark's handler: the question starts with "CHUNKS TAG ", and the answer has to
            be TAG and, in all, this many texts. None takes any answer.
        pause: with `chunks`: the handler is asked to suspend before each text.
        expected_words: with `chunks`: the texts of an answer by their places, against which one turn in 16 is checked.
        profile: how the load changes over the time of a run.
        call_s: conversations hang up after this time, half to one and a half times, and call again; None never.
        reconnects: conversations that were cut, or never answered, call again.
        source_addresses: local addresses to call from, in turn: one has some 28,000 ports.
        spins: wait without sleeping: the kernel wakes sleepers late, by 0.1 ms and at times by milliseconds, which
            would count as the server's. For a process that has a core for itself; its CPU time is counted without.
        insecure: do not verify the certificate.
        cafile: certificates to trust, in place of the system's.
        first_number: the number of the first conversation, for those of several processes to differ.
        seed: what is random hangs on it.
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
    profile: Profile = PROFILES["steady"]
    call_s: float | None = None
    reconnects: bool = False
    source_addresses: tuple[str, ...] = ()
    spins: bool = False
    insecure: bool = False
    cafile: str | None = None
    first_number: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            ConfigError: a value makes no sense.
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
        """Make a plan of `dataclasses.asdict`, through JSON or not."""
        return cls(**{field.name: _frozen(values[field.name]) for field in fields(cls) if field.name in values})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
