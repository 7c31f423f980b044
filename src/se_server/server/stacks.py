"""Where the threads and tasks of a worker stand, one line each."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType

from se_server.conversation.blocking import where
from se_server.conversation.lane import frames_of

MAX_TASKS = 200
_TRIES = 10


def stack_lines(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Describe all threads, and the tasks of a loop; may be called in any thread.

    Args:
        loop: None if there is none yet.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            stack = [found for found, _ in traceback.walk_stack(frame)]
            lines.append(f"thread {names.get(ident, ident)} stands at {_chain(stack)}")
    if loop is None:
        return lines
    tasks = _tasks_of(loop)
    for task in tasks[:MAX_TASKS]:
        stack = frames_of(task.get_coro())[::-1]
        lines.append(f"task {task.get_name()} ({_state(task)}) stands at {_chain(stack)}")
    if len(tasks) > MAX_TASKS:
        lines.append(f"and {len(tasks) - MAX_TASKS} more tasks")
    return lines


def _tasks_of(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[object]]:
    for _ in range(_TRIES):
        try:
            # Those that run synchronous code now come first: one of them is the culprit.
            return sorted(asyncio.all_tasks(loop), key=lambda task: _state(task) != "running")
        except RuntimeError:  # the set of tasks changed under our eyes
            continue
    return []


def _state(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return "running" if getattr(coroutine, "cr_running", False) else "waiting"


def _chain(frames: Sequence[FrameType]) -> str:
    """Describe a stack, innermost frame first."""
    return ", called from ".join(map(where, frames)) or "an unknown place"
