"""Debuggers: whether one holds a thread, so that the time a developer thinks is not taken for a hang."""

from __future__ import annotations

import bdb
import os
import sys
from collections.abc import Iterator
from types import FrameType

_MODULES = {
    "pdb",
    "bdb",
    "ipdb",
    "pudb",
    "wdb",
    "web_pdb",
    "remote_pdb",
    "rpdb",
    "debugpy",
    "pydevd",
    "IPython",
    "ptpython",
    "bpython",
    "code",
}
_PREFIXES = ("pydevd", "_pydevd", "_pydev")


def may_hold(workers: int, reload: bool) -> bool:
    """Whether a developer may debug this server: with --reload, or one worker and a terminal on stdin."""
    return reload or (workers == 1 and sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty())


def is_held(thread: int) -> bool:
    """Whether a debugger holds a thread, by its ident. Any thread may call this."""
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    modules = _MODULES | {os.environ.get("PYTHONBREAKPOINT", "").partition(".")[0]} - {""}
    return any(_is_of_debugger(frame, modules) for frame in _frames(thread))


def _frames(thread: int) -> Iterator[FrameType]:
    """Return the frames of a thread down to the worker's: a server that runs under a debugger is not held by it."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_globals.get("__name__") != "se_server.server.worker.worker":
        yield frame
        frame = frame.f_back


def _is_of_debugger(frame: FrameType, modules: set[str]) -> bool:
    root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if root in modules or root.startswith(_PREFIXES):
        return True
    if isinstance(frame.f_locals.get("self"), bdb.Bdb):
        return True
    trace = frame.f_trace  # set by debuggers that use sys.settrace; coverage measures with it, too
    return trace is not None and not str(getattr(type(trace), "__module__", "")).startswith("coverage")
