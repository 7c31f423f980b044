"""A program as the APP of a worker: it runs as `__main__`, and its `serve()` is the worker's serving."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

import uvloop

from se_server.errors import AppError, SpeechEngineError
from se_server.forks import end_child
from se_server.server.config.app import AppCrashed, user_traceback
from se_server.server.config.scripts import Captor, Script, Serving, capture

logger = logging.getLogger("se_server.server.worker")


class Refused(SpeechEngineError, RuntimeError):
    """A program did what a worker cannot do for it; the text says how to do it."""


def run_script(script: Script, serve: Captor, *, use_uvloop: bool, takes_several: bool = False) -> AppError | None:
    """Run a program to its end.

    Args:
        script: the program.
        serve: serves in place of the program's `serve()`.
        use_uvloop: whether the event loops that it makes are uvloop's, unless it names others.
        takes_several: whether several servers may serve.

    Returns:
        None if it has served; else the reason, one sentence.
    """
    begun: list[Serving] = []

    async def serve_once(serving: Serving) -> None:
        if begun and not takes_several:
            raise Refused(
                f"{script.file} calls serve() twice, or of several servers: se-server run takes one server of a"
                " program; run one program for each"
            )
        begun.append(serving)
        await serve(serving)

    capture(serve_once)
    pid = os.getpid()
    try:
        _execute(script, use_uvloop=use_uvloop)
    except AppError as error:
        return error
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        if not begun or isinstance(error, Refused):
            return AppCrashed.of(f"{script.file}, before serve()," if not begun else script.file, error)
        if not isinstance(error, SystemExit):
            logger.error("%s raised %r after serve():\n%s", script.file, error, user_traceback(error))
        return None
    if os.getpid() != pid:
        end_child()
    return None if begun else AppError(_never_served(script))


def _execute(script: Script, *, use_uvloop: bool) -> None:
    path = script.path
    if use_uvloop:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
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


def _never_served(script: Script) -> str:
    return (
        f"{script.file} has ended without serve(): se-server run is for programs that call engine.serve() or"
        f" SpeechEngineServer(...).serve(); a file with handlers is run by se-server {script.file}"
    )


class Guest(Protocol):
    """A worker on the event loop of a program."""

    async def run_as_guest(self, is_ready: Callable[[int], None]) -> None:
        """Serve on the running loop until ordered to stop."""

    def end(self, timeout_s: float | None = None) -> None:
        """Drain within a time; None is the configured one."""


def serve_of(worker: Callable[[Serving], Guest]) -> Captor:
    """Return the captor that runs a worker's serving on the program's loop.

    Args:
        worker: makes the worker from the program's server, on the running loop.
    """

    async def serve(serving: Serving) -> None:
        made = worker(serving)
        running = asyncio.create_task(made.run_as_guest(serving.is_ready), name="worker")
        stopping = asyncio.create_task(serving.wait_stop(), name="wait for stop()")
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                made.end()
            await asyncio.shield(running)
        except asyncio.CancelledError:
            made.end(0.0)
            await asyncio.wait((running,))
            raise
        finally:
            stopping.cancel()

    return serve
