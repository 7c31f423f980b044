"""Test agents in process: conversations without sockets, in virtual time.

With pytest, the fixtures of `plugin.py` are available without an import: `caller`, `plain_caller`, `make_caller`,
`se_replay` and `se_app`. Other tests use `call` and `replay`. The names below are public; they are imported at their
first use, because every run of pytest loads the plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from se_server.errors import CallerError, VirtualTimeError
    from se_server.simulator.calls import CallTurn
    from se_server.simulator.habits import Habits, Moment
    from se_server.simulator.judge import Outcome, Reply, Summary, Verdict
    from se_server.testing.caller import Caller, Interruption
    from se_server.testing.clock import run, virtual_time
    from se_server.testing.plain import PlainCaller
    from se_server.testing.replaying import Replay, replay
    from se_server.testing.stage import MakeCaller, call

_NAMES_BY_MODULE = {
    "se_server.errors": ("CallerError", "VirtualTimeError"),
    "se_server.simulator.calls": ("CallTurn",),
    "se_server.simulator.habits": ("Habits", "Moment"),
    "se_server.simulator.judge": ("Outcome", "Reply", "Summary", "Verdict"),
    "se_server.testing.caller": ("Caller", "Interruption"),
    "se_server.testing.clock": ("run", "virtual_time"),
    "se_server.testing.plain": ("PlainCaller",),
    "se_server.testing.replaying": ("Replay", "replay"),
    "se_server.testing.stage": ("MakeCaller", "call"),
}
_HOMES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "CallTurn",
    "Caller",
    "CallerError",
    "Habits",
    "Interruption",
    "MakeCaller",
    "Moment",
    "Outcome",
    "PlainCaller",
    "Replay",
    "Reply",
    "Summary",
    "Verdict",
    "VirtualTimeError",
    "call",
    "replay",
    "run",
    "virtual_time",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
