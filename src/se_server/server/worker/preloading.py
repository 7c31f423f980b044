"""Preloading: import libraries, and the APPs if that is wanted, so that workers which are forked later have them.

What an import leaves running or open would break in the workers, and is refused; see `leftovers`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

from se_server.errors import AppError
from se_server.forks import end_child
from se_server.server.config.config import Config
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.importing import nearest_module, put_on_path
from se_server.server.config.loading import loading
from se_server.server.config.preloaded import preload_app
from se_server.server.config.scripts import Script
from se_server.server.worker.leftovers import Leftovers
from se_server.server.worker.randomness import noting_generators
from se_server.types import Handler

Reporter = Callable[[str], object]


def preload(config: Config, report: Reporter) -> None:
    """Import everything that `--preload` names.

    Args:
        report: called with the name of each import before it begins.

    Raises:
        AppError: an import fails, or leaves something behind that does not survive a fork; one sentence.
    """
    put_on_path(os.getcwd())
    with Leftovers() as leftovers, noting_generators():
        try:
            for name in config.preload.preload:
                _preload_library(name, config, report, leftovers)
            for app in _apps(config):
                _preload_app(app, report, leftovers)
        except AppError:
            leftovers.end_processes()
            raise


def _preload_library(name: str, config: Config, report: Reporter, leftovers: Leftovers) -> None:
    report(f"the import of {name}")
    _import(name)
    left = leftovers.find()
    if left:
        raise AppError(
            f"--preload {name}: importing it leaves {left}, which no forked worker can use: take {name} out of"
            " --preload, or have it begin this later, as in on_startup"
        )
    _refuse_app(config, name)


def _apps(config: Config) -> list[str | None]:
    if not config.preload.preload_app or Script.of(config.program.app) is not None:
        return []
    return [*config.apps()] or [None]


def _preload_app(app: str | None, report: Reporter, leftovers: Leftovers) -> None:
    pid = os.getpid()
    report(f"the import of {_name_of(app)}")
    try:
        warm_up = preload_app(app)
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        raise
    if os.getpid() != pid:
        end_child()
    _refuse_left(leftovers, f"{_name_of(app)}: importing it")
    if warm_up is not None:
        report(f"warm_up() of {_name_of(app)}")
        _warm_up(warm_up, f"{_name_of(app)}: warm_up()")
        _refuse_left(leftovers, f"{_name_of(app)}: warm_up()")


def _name_of(app: str | None) -> str:
    return f"APP {'demo' if app is None else app!r}"


def _refuse_left(leftovers: Leftovers, what: str) -> None:
    left = leftovers.find()
    if left:
        raise AppError(
            f"{what} leaves {left}, which no forked worker can use: begin it in on_startup, which runs in each worker,"
            " or leave out --preload-app"
        )


def _warm_up(warm_up: Handler, what: str) -> None:
    """Call an APP's `warm_up`, a coroutine function on an event loop of its own."""
    pid = os.getpid()
    try:
        result = warm_up()
        if inspect.isawaitable(result):
            asyncio.run(_wait_for(result))
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        raise AppCrashed.of(what, error) from error
    if os.getpid() != pid:
        end_child()


async def _wait_for(result: Awaitable[object]) -> None:
    await result


def _import(name: str) -> None:
    pid = os.getpid()
    importlib.invalidate_caches()
    try:
        with loading():
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise AppError(
                f"--preload {name}: no module {error.name!r} in {Path.cwd()} or on Python's path{nearest_module(name)}"
            ) from None
        raise AppCrashed.of(f"--preload {name}: importing it", error) from error
    except BaseException as error:
        if os.getpid() != pid:
            end_child(error)
        raise AppCrashed.of(f"--preload {name}: importing it", error) from error
    if os.getpid() != pid:
        end_child()  # the module has forked while it was imported


def _refuse_app(config: Config, name: str) -> None:
    """Refuse a library that has imported an APP: workers load it, with the code on disk."""
    if config.preload.preload_app:
        return
    for app in config.apps():
        if Script.of(app) is None and _is_imported(app):
            raise AppError(
                f"--preload {name}: importing it imports the APP {app!r}, and a worker that starts later would run that"
                " code: give --preload-app for this, or name libraries only"
            )


def _is_imported(app: str) -> bool:
    place = app.rpartition(":")[0] if ".py:" in app else app
    if not place.endswith(".py"):
        return place.partition(":")[0] in sys.modules
    path = os.path.realpath(place)
    files = (vars(module).get("__file__") for module in list(sys.modules.values()) if isinstance(module, ModuleType))
    return any(isinstance(file, str) and os.path.realpath(file) == path for file in files)
