"""The scenarios, and the lineup of servers with the scenarios of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

__all__ = [
    "C_FRAME",
    "C_TURN",
    "GROUPS",
    "JAVASCRIPT",
    "LINEUP",
    "LLM",
    "LLM_AIOHTTP",
    "LLM_OPENAI",
    "MAIN",
    "NO_AUTHENTICATION",
    "OURS",
    "PUBLISHED",
    "SCENARIOS",
    "TLS",
    "Entrant",
    "Kind",
    "Scenario",
]

GROWS_TO = 200
"""Messages of the longest transcript of a growing conversation, at which it starts over."""


class Kind(Enum):
    """The ways to measure a scenario."""

    TURNS = "turns"
    """A closed loop: CPU time of a turn."""
    SCHEDULE = "schedule"
    """An open loop, well below the capacity of every server here: latency from the scheduled moment."""
    CONNECTIONS = "connections"
    """Conversations are opened and have one turn each: memory, and the CPU time of a handshake."""
    LLM = "llm"
    """Calls with an LLM package behind the server: CPU time of a token and a call, and the conversations of a core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the comparison.

    Attributes:
        chunks: texts of an answer.
        history: messages of every transcript, the new one included; None: they grow to 200 and start over.
        trickles: the answer's stream suspends before each chunk, so each leaves alone.
        package: an LLM package, a name of `bench.load.targets.llm_agent.PACKAGES`.
        group: a name by which `--only` takes it together with others.
        in_quick: part of `--quick`, too.
    """

    name: str
    title: str
    kind: Kind = Kind.TURNS
    chunks: int = 1
    history: int | None = 4
    trickles: bool = False
    conversations: int = 100
    turns_per_s: float | None = None
    package: str = ""
    group: str = "turns"
    in_quick: bool = True


_FIRST_FOUR = (
    Scenario(name="one", title="1 chunk, history 4"),
    Scenario(name="one-growing", title="1 chunk, history growing to 200", history=None),
    Scenario(name="burst", title="32 chunks burst, history 4", chunks=32),
    Scenario(name="burst-growing", title="32 chunks burst, history growing to 200", chunks=32, history=None),
)
_TRICKLE = Scenario(name="trickle", title="32 chunks trickle, history 4", chunks=32, trickles=True)
MAIN = (*(scenario.name for scenario in _FIRST_FOUR), _TRICKLE.name)
"""The scenarios of turns that have targets."""
_CONNECTIONS = Scenario(
    name="connections", title="idle conversations, handshakes", kind=Kind.CONNECTIONS, group="connections"
)
_SCHEDULE = Scenario(
    name="schedule",
    title="open loop, 400 turns/s, 32 chunks",
    kind=Kind.SCHEDULE,
    group="latency",
    chunks=32,
    turns_per_s=400.0,
)
_HISTORIES = tuple(
    Scenario(
        name=f"history-{messages}",
        title=f"1 chunk, history {messages:,}",
        history=messages,
        group="history",
        in_quick=messages != 100,
    )
    for messages in (10, 100, 1000)
)
_EIGHT = Scenario(name="burst-8", title="8 chunks burst, history 4", chunks=8, group="chunks", in_quick=False)
_MANY = tuple(
    replace(
        scenario,
        name=f"{scenario.name}-1000",
        title=f"{scenario.title}, 1,000 conversations",
        conversations=1000,
        group="many",
        in_quick=False,
    )
    for scenario in _FIRST_FOUR
)
LLM_OPENAI, LLM_AIOHTTP = "llm-openai", "llm-openai-aiohttp"
_LLM = tuple(
    Scenario(
        name=name, title=f"LLM: {package}", kind=Kind.LLM, package=package, group="llm", in_quick=name == LLM_OPENAI
    )
    for name, package in (
        (LLM_OPENAI, "openai"),
        (LLM_AIOHTTP, "openai over aiohttp"),
        ("llm-anthropic", "anthropic"),
        ("llm-google-genai", "google-genai"),
    )
)
LLM = tuple(scenario.name for scenario in _LLM)
"""The scenarios with an LLM package, which follow one another in the tables."""

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (*_LLM, _CONNECTIONS, *_FIRST_FOUR, _TRICKLE, _SCHEDULE, *_HISTORIES, _EIGHT, *_MANY)
}
"""All scenarios in their order on a server: memory first, on a process that has done nothing else."""
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name, scenario in SCENARIOS.items() if scenario.group == group)
    for group in dict.fromkeys(scenario.group for scenario in SCENARIOS.values())
}
"""Scenarios by the name of their group."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A server in the comparison: a name of `bench.load.targets.TARGETS`, and its scenarios."""

    name: str
    scenarios: tuple[str, ...]
    in_quick: bool = True


OURS, NO_AUTHENTICATION = "se-server", "se-server, no authentication"
PUBLISHED = ("published SDK, asyncio", "published SDK, uvloop")
JAVASCRIPT = "JavaScript SDK"
C_TURN, C_FRAME = "bare C, one send a turn", "bare C, one send a frame"
"""The limits: one send a turn is that of everything but a trickle, one send a frame that of a trickle."""
TLS = ", TLS"

_ROWS = tuple(scenario.name for scenario in _FIRST_FOUR)
_BY_HAND = (*_ROWS, "trickle", "connections")
_OVER_TLS = ("one", "burst", "trickle", "connections")
_ALL = tuple(SCENARIOS)
_BARE = tuple(name for name in _ALL if name not in LLM)
_UVICORN, _GRANIAN = "published SDK, FastAPI on uvicorn", "published SDK, FastAPI on granian"

LINEUP: tuple[Entrant, ...] = (
    Entrant(OURS, _ALL),
    Entrant(NO_AUTHENTICATION, ("connections",)),
    # On asyncio with one LLM package: the others differ from it as on uvloop.
    Entrant(PUBLISHED[0], (LLM_OPENAI, *_BARE), in_quick=False),
    Entrant(PUBLISHED[1], _ALL),
    # Some scenarios show the cost that a framework adds; its session is the one above.
    Entrant(_UVICORN, (LLM_OPENAI, *_ROWS), in_quick=False),
    Entrant(_GRANIAN, _ROWS, in_quick=False),
    Entrant(JAVASCRIPT, tuple(name for name in _ALL if name not in LLM or name == LLM_OPENAI)),
    *(Entrant(name, _BY_HAND, in_quick=False) for name in ("plain picows", "picows in Cython")),
    Entrant(C_TURN, tuple(name for name in _BARE if name != "trickle")),
    Entrant(C_FRAME, ("burst", "trickle")),
    # The published SDK's own server speaks no TLS.
    *(Entrant(f"{name}{TLS}", _OVER_TLS, in_quick=False) for name in (OURS, _UVICORN, JAVASCRIPT)),
)
