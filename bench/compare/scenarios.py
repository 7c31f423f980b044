"""The scenarios, and the lineup of servers with the scenarios of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from bench.load.targets.pythons import VERSIONS

__all__ = [
    "ALL_FEATURES",
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
    "PACED",
    "PUBLISHED",
    "PYTHON",
    "PYTHON_ROWS",
    "SCENARIOS",
    "TLS",
    "UVLOOP_TLS",
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
    START = "start"
    """A server is started, and its worker killed: the times until they are ready, and that of the imports."""
    LLM = "llm"
    """Calls with an LLM package behind the server: CPU time of a token and a call, and the conversations of a core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the comparison.

    Attributes:
        chunks: texts of an answer.
        history: messages of every transcript, the new one included; None: they grow to 200 and start over.
        trickles: the answer's stream suspends before each chunk, so each leaves alone.
        chunk_bytes: the size of an answer's texts; 0: about that of an LLM's tokens. Each other size has its process.
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
    chunk_bytes: int = 0
    package: str = ""
    group: str = "turns"
    in_quick: bool = True

    @property
    def is_aside(self) -> bool:
        """Whether no target is about it, so that a comparison has fewer repetitions of it."""
        return self.group in ("chunks", "many") or self.name in ("history-1", "history-2000")


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
        in_quick=messages in (10, 1000),
    )
    for messages in (1, 10, 100, 1000, 2000)
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

_CROWDS = tuple(
    replace(
        _FIRST_FOUR[0],
        name=f"one-{number}",
        title=f"1 chunk, history 4, {number:,} conversations",
        conversations=number,
        group="many",
        in_quick=False,
    )
    for number in (10_000, 19_000)
)
"""A process may have 20,000 descriptors on many machines. Ten conversations that ask again at once are beyond
se-server's limit of 1,000 messages a second of one connection, which no caller reaches."""
_SIZES = tuple(
    replace(
        _EIGHT,
        name=f"size-{number}",
        title=f"8 chunks of {number:,} bytes burst, history 4",
        chunk_bytes=number,
    )
    for number in (100, 1_000, 10_000)
)
_START = Scenario(name="start", title="starts and imports", kind=Kind.START, group="start")

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        *_LLM,
        _START,
        _CONNECTIONS,
        *_FIRST_FOUR,
        _TRICKLE,
        _SCHEDULE,
        *_HISTORIES,
        _EIGHT,
        *_SIZES,
        *_MANY,
        *_CROWDS,
    )
}
"""All scenarios in their order on a server: memory first, on a process that has done nothing else."""
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name, scenario in SCENARIOS.items() if scenario.group == group)
    for group in dict.fromkeys(scenario.group for scenario in SCENARIOS.values())
}
"""Scenarios by the name of their group."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A server in the comparison: a name of `bench.load.targets.TARGETS`, and its scenarios.

    Those on other Pythons are no part of a whole comparison, but have an option of their own. One that is aside, no
    target being about it, has fewer repetitions.
    """

    name: str
    scenarios: tuple[str, ...]
    in_quick: bool = True
    is_aside: bool = False

    @property
    def is_python(self) -> bool:
        """Whether it is ours on another Python."""
        return self.name.startswith(PYTHON)


OURS, NO_AUTHENTICATION = "se-server", "se-server, no authentication"
PACED, ALL_FEATURES = "se-server, paced", "se-server, all features"
UVLOOP_TLS = "bare uvloop, TLS"
PYTHON = f"{OURS}, Python "
PYTHON_ROWS = (LLM_OPENAI, "start", "connections", "one", "burst", "trickle")
"""The scenarios of ours on several Pythons."""
PUBLISHED = ("published SDK, asyncio", "published SDK, uvloop")
JAVASCRIPT = "JavaScript SDK"
C_TURN, C_FRAME = "bare C, one send a turn", "bare C, one send a frame"
"""The limits: one send a turn is that of everything but a trickle, one send a frame that of a trickle."""
TLS = ", TLS"

_ROWS = tuple(scenario.name for scenario in _FIRST_FOUR)
_BY_HAND = (*_ROWS, "trickle", "connections")
_OVER_TLS = ("one", "burst", "trickle", "connections")
_ALL = tuple(SCENARIOS)
_BARE = tuple(name for name in _ALL if name not in (*LLM, _START.name, "one-10000", "one-19000"))
_CHUNK_SIZES = tuple(scenario.name for scenario in _SIZES)
_UVICORN = "published SDK, FastAPI on uvicorn"
_OTHER_FRAMEWORKS = tuple(f"published SDK, FastAPI on {name}" for name in ("granian", "gunicorn", "hypercorn"))
_OTHER_SDKS = ("published SDK on picows.websockets", "published SDK 3.0.0a1, uvloop")

LINEUP: tuple[Entrant, ...] = (
    Entrant(OURS, _ALL),
    *(Entrant(f"{PYTHON}{version}", PYTHON_ROWS, in_quick=False) for version in VERSIONS),
    Entrant(NO_AUTHENTICATION, ("connections",)),
    Entrant(PACED, ("trickle",)),
    Entrant(ALL_FEATURES, ("connections", "schedule"), in_quick=False),
    *(Entrant(f"{OURS}, {number} workers", ("one-1000",), in_quick=False) for number in (2, 4, 8)),
    # On asyncio with one LLM package: the others differ from it as on uvloop.
    Entrant(PUBLISHED[0], (LLM_OPENAI, "connections", *MAIN, "schedule"), in_quick=False),
    Entrant(PUBLISHED[1], (*LLM, *_BARE, "one-10000")),
    # Some scenarios show the cost that a framework adds; its session is the one above.
    Entrant(_UVICORN, (LLM_OPENAI, *_ROWS), in_quick=False),
    *(Entrant(name, _ROWS, in_quick=False, is_aside=True) for name in _OTHER_FRAMEWORKS),
    *(Entrant(name, (*_ROWS, "trickle"), in_quick=False, is_aside=True) for name in _OTHER_SDKS),
    Entrant(JAVASCRIPT, (LLM_OPENAI, *_BARE)),
    *(Entrant(name, _BY_HAND, in_quick=False) for name in ("plain picows", "picows in Cython")),
    Entrant(C_TURN, tuple(name for name in _BARE if name != "trickle" and name not in _CHUNK_SIZES)),
    Entrant(C_FRAME, ("burst", "trickle")),
    Entrant(UVLOOP_TLS, ("one", "connections"), in_quick=False),
    # The published SDK's own server speaks no TLS.
    *(Entrant(f"{name}{TLS}", _OVER_TLS, in_quick=False) for name in (OURS, _UVICORN, JAVASCRIPT)),
)
