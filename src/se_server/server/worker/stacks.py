"""The stacks of a worker's threads and tasks, one line each."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType

from se_server.conversation.blocking import where
from se_server.conversation.findings import frames_of
from se_server.telemetry._printable import cut, text_of

MAX_TASKS = MAX_THREADS = 200
MAX_FRAMES = 50
"""Frames shown of one stack: the innermost ones and, after a number, the outermost `OUTER_FRAMES`."""
OUTER_FRAMES = 10
MAX_NAME = 128
MAX_PLACE = 200
MAX_LINE = 12_000  # characters
_TRIES = 10


def stack_lines(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Describe all other threads, and the tasks of a loop. Any thread may call this.

    Args:
        loop: None before the worker has a loop.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    stacks = {ident: frame for ident, frame in sys._current_frames().items() if ident != threading.get_ident()}
    # The main thread runs the loop.
    for ident in sorted(stacks, key=lambda ident: ident != threading.main_thread().ident)[:MAX_THREADS]:
        stack = [found for found, _ in traceback.walk_stack(stacks[ident])]
        lines.append(_line("thread", names.get(ident, ident), "", stack))
    if len(stacks) > MAX_THREADS:
        lines.append(f"and {len(stacks) - MAX_THREADS} more threads")
    if loop is None:
        return lines
    tasks = _tasks_of(loop)
    for task in tasks[:MAX_TASKS]:
        stack = _frames_of(task.get_coro())[::-1]
        lines.append(_line("task", task.get_name(), f" ({_state(task)})", stack))
    if len(tasks) > MAX_TASKS:
        lines.append(f"and {len(tasks) - MAX_TASKS} more tasks")
    return lines


def _line(kind: str, name: object, state: str, stack: Sequence[FrameType]) -> str:
    line = f"{kind} {cut(text_of(name), MAX_NAME)}{state} stands at {chain(stack)}"
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."


def _tasks_of(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[object]]:
    for _ in range(_TRIES):
        try:
            # Tasks that run code now come first: one of them blocks the loop.
            return sorted(asyncio.all_tasks(loop), key=lambda task: _state(task) != "running")
        except RuntimeError:  # the set of tasks changed during the iteration
            continue
    return []


def _frames_of(coroutine: object) -> list[FrameType]:
    """Return the frames of a suspended coroutine, outermost first, through compiled coroutines to those they await."""
    frames: list[FrameType] = []
    while coroutine is not None:
        frames += [frame for frame in frames_of(coroutine) if frame.f_lineno]  # frames of compiled code have no line
        while (awaited := getattr(coroutine, "cr_await", None)) is not None:
            coroutine = awaited
        # Compiled code awaits a wrapper, which refers to its coroutine only for the garbage collector.
        is_wrapper = type(coroutine).__name__ == "coroutine_wrapper"
        coroutine = next(iter(gc.get_referents(coroutine)), None) if is_wrapper else None
    return frames


def _state(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return "running" if getattr(coroutine, "cr_running", False) else "waiting"


def thread_line(thread: threading.Thread) -> str:
    """Say where a thread stands."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = [] if frame is None else [found for found, _ in traceback.walk_stack(frame)]
    return f"thread {thread.name} stands at {chain(stack)}"


def chain(frames: Sequence[FrameType]) -> str:
    """Describe a stack, innermost frame first; of a deep one, its two ends."""
    left_out = len(frames) - MAX_FRAMES
    if left_out <= 0:
        return ", called from ".join(map(_place, frames)) or "an unknown place"
    places = [*map(_place, frames[: MAX_FRAMES - OUTER_FRAMES]), f"{left_out} more frames"]
    return ", called from ".join([*places, *map(_place, frames[-OUTER_FRAMES:])])


def _place(frame: FrameType) -> str:
    place = where(frame)
    return place if len(place) <= MAX_PLACE else f"...{place[-MAX_PLACE:]}"  # the end has file, line and function
