"""A program as the APP of a worker: it runs as `__main__`, and its `serve()` is the worker's serving."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Protocol

import uvloop

from se_server.errors import AppError, ConfigError
from se_server.forks import end_child, reset_in_children
from se_server.server.config.app import AppCrashed, user_traceback
from se_server.server.config.scripts import Script, Serving, capture

logger = logging.getLogger("se_server.server.worker")


REMINDER_S = 1.0  # a program that goes on this long after its serve() waits for its own signal
OTHERS_S = 0.05  # the time after a serve() in which those of further servers come, as from asyncio.gather
Captors = Callable[[Sequence[Serving]], Awaitable[None]]


class _Calls:
    """The `serve()` calls of a program: those of several servers come together, and end together.

    Args:
        serve: serves in place of all of them.
    """

    def __init__(self, script: Script, serve: Captors) -> None:
        self._script = script
        self._serve = serve
        self._pid = os.getpid()
        self._servings: list[Serving] = []
        self._ended = asyncio.Event()
        self._are_all_there = False
        self.error: AppError | ConfigError | None = None

    @property
    def has_begun(self) -> bool:
        return bool(self._servings)

    async def take(self, serving: Serving) -> None:
        """Serve in place of one `serve()`."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{self._script.file} calls serve() in a process that it has forked: se-server run makes the processes"
                " itself, call serve() once and give --workers"
            )
        if self._are_all_there:
            self.error = AppError(
                f"{self._script.file} calls serve() again while or after it serves: se-server run takes servers that"
                " begin together, as by asyncio.gather"
            )
            raise RuntimeError(str(self.error))
        self._servings.append(serving)
        if len(self._servings) > 1:
            await self._ended.wait()
            return
        try:
            await asyncio.sleep(OTHERS_S)
            self._are_all_there = True
            await self._serve(self._servings)
        except (AppError, ConfigError) as error:
            self.error = error
            raise
        finally:
            self._are_all_there = True
            self._ended.set()


def run_script(script: Script, serve: Captors, *, use_uvloop: bool) -> AppError | ConfigError | None:
    """Run a program to its end.

    Args:
        script: the program.
        serve: serves in place of the program's `serve()`, or of several that it calls together.
        use_uvloop: whether the event loops that it makes are uvloop's, unless it names others.

    Returns:
        None if it has served; else the reason, one sentence.
    """
    calls = _Calls(script, serve)
    capture(calls.take)
    pid = os.getpid()
    try:
        _execute(script, use_uvloop=use_uvloop)
    except AppError as error:
        return calls.error or error
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        if not calls.has_begun:
            return AppCrashed.of(f"{script.file}, before serve(),", error)
        if calls.error is None and not isinstance(error, SystemExit):
            logger.error("%s raised %r after serve():\n%s", script.file, error, user_traceback(error))
    if os.getpid() != pid:
        end_child()
    return calls.error if calls.has_begun else AppError(_never_served(script))


def _execute(script: Script, *, use_uvloop: bool) -> None:
    path = script.path
    if use_uvloop:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(_Policy())
    main = ModuleType("__main__")
    main.__file__ = str(path)
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    sys.argv = [script.file, *script.arguments]
    sys.path.insert(0, str(path.parent))
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise AppCrashed.of(script.file, error) from error
    exec(code, vars(main))


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Makes loops of uvloop, and the first one of the main thread on demand, which uvloop's own policy refuses."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Stop:
    """The handler of SIGTERM in a program that has none."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop

    def __call__(self, number: int, frame: object) -> None:
        self._stop()


def stop_on_sigterm(stop: Callable[[], object]) -> None:
    """Have SIGTERM call a function, unless the program handles it itself."""
    if _is_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        handler = _Stop(stop)
        signal.signal(signal.SIGTERM, handler)
        reset_in_children(handler)


def _remind(loop: asyncio.AbstractEventLoop) -> None:
    """Send SIGTERM to a program that handles it and goes on: it waits for that, as under a service manager."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and not isinstance(handler, _Stop):
        loop.call_later(REMINDER_S, os.kill, os.getpid(), signal.SIGTERM)


def _never_served(script: Script) -> str:
    return (
        f"{script.file} has ended without serve(): se-server run is for programs that call engine.serve() or"
        f" SpeechEngineServer(...).serve(); a file with handlers is run by se-server {script.file}"
    )


class Guest(Protocol):
    """A worker on the event loop of a program."""

    async def run_as_guest(self, is_ready: Callable[[], None]) -> None:
        """Serve on the running loop until ordered to stop."""

    def end(self, timeout_s: float | None = None) -> None:
        """Drain within a time; None is the configured one."""


def serve_of(worker: Callable[[Sequence[Serving]], tuple[Guest, Sequence[int]]]) -> Captors:
    """Return the captor that runs a worker's serving on the program's loop.

    Args:
        worker: makes the worker from the program's servers, on the running loop; returns the port of each server, too.
    """

    async def serve(servings: Sequence[Serving]) -> None:
        made, ports = worker(servings)

        def is_ready() -> None:
            for serving, port in zip(servings, ports, strict=True):
                serving.is_ready(port)

        running = asyncio.create_task(made.run_as_guest(is_ready), name="worker")
        stops = [asyncio.create_task(serving.wait_stop(), name="wait for stop()") for serving in servings]
        try:
            await asyncio.wait((running, *stops), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                made.end()
            await asyncio.shield(running)
            _remind(asyncio.get_running_loop())
        except asyncio.CancelledError:
            made.end(0.0)
            await asyncio.wait((running,))
            raise
        finally:
            for stop in stops:
                stop.cancel()

    return serve
