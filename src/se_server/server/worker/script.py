"""A program as the APP of a worker: it runs as `__main__`, and its `serve()` is the worker's serving."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import uvloop

from se_server.errors import AppError, ConfigError
from se_server.forks import end_child, reset_in_children
from se_server.server.config.crashes import user_traceback
from se_server.server.config.scripts import Script, Serving, capture, refusal
from se_server.server.worker.program_ends import conflict_of, ended_early
from se_server.server.worker.program_main import become_main
from se_server.server.worker.serve_calls import Captors, Leave, ServeCalls

logger = logging.getLogger("se_server.server.worker")


REMINDER_S = 1.0  # a program that goes on this long after its serve() waits for its own signal


def run_script(
    script: Script, serve: Captors, *, use_uvloop: bool, leave: Leave | None = None
) -> AppError | ConfigError | None:
    """Run a program to its end.

    Args:
        script: the program.
        serve: serves in place of the program's `serve()`, or of several that it calls together.
        use_uvloop: whether the event loops that it makes are uvloop's, unless it names others.
        leave: ends the process if the program goes on too long after `serve()`; None sets no limit.

    Returns:
        None if it has served; else the reason, one sentence.
    """
    calls = ServeCalls(script, serve, leave)
    capture(calls.take)
    pid = os.getpid()
    left: BaseException | None = None
    try:
        _execute(script, use_uvloop=use_uvloop)
    except AppError as error:
        return calls.error or error
    except BaseException as error:
        left = error
    finally:
        calls.program_ended()
    if os.getpid() != pid:
        end_child(left)
    reason = calls.error or refusal()
    if reason is None and not calls.has_served:
        reason = calls.in_child() or ended_early(script, left, has_begun=calls.has_begun)
    if reason is None and left is not None:
        _report(script, left)
    return reason


def _report(script: Script, left: BaseException) -> None:
    """Log the exception that has left a program after its worker served."""
    conflict = conflict_of(left)
    if conflict:
        logger.error("%s, after serve(), %s\n%s", script.file, conflict, user_traceback(left))
    elif not isinstance(left, SystemExit):
        logger.error("%s raised %r after serve():\n%s", script.file, left, user_traceback(left))


def _execute(script: Script, *, use_uvloop: bool) -> None:
    code, namespace = become_main(script)
    if use_uvloop:
        _make_uvloop_the_default()
    exec(code, namespace)


def _make_uvloop_the_default() -> None:
    with warnings.catch_warnings():
        # Python 3.14 deprecates policies. The class is asked for here, and not when the module is imported.
        warnings.simplefilter("ignore", DeprecationWarning)

        class Policy(asyncio.DefaultEventLoopPolicy):
            """Makes loops of uvloop, and the main thread's on demand where Python does, which uvloop's own refuses."""

            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                return uvloop.new_event_loop()

        asyncio.set_event_loop_policy(Policy())


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
