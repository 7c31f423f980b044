"""The published SDK's names for the programs of `se-server run`: they import `elevenlabs`, and find this package."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from se_server.server.config.scripts import Script, refuse

OURS, THEIRS = "se_server", "elevenlabs"
_PUBLISHED = f"{THEIRS}.speech_engine.server"
# In the installed package, these are replaced; `client` and `raw_client` beside them are its own.
_PARTS = ("session", "resource", "server", "types", "session_types")
REPLACED = {f"{THEIRS}.speech_engine.{part}": f"{OURS}.speech_engine.{part}" for part in _PARTS}
# Without the package, this one stands in for it.
STANDING_IN = {
    THEIRS: OURS,
    f"{THEIRS}.client": f"{OURS}.client",
    f"{THEIRS}.speech_engine": f"{OURS}.speech_engine",
    **REPLACED,
}


def alias_once(app: str | None, no_alias: bool) -> str:
    """Alias the names in this process and those it forks, if it runs a program; return a sentence about it.

    A second call does nothing, and returns an empty text.
    """
    if Script.of(app) is None or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return ""
    if no_alias:
        sys.meta_path[:0] = [_Finder({}), _Patched("uvicorn", _without_run), _Patched(_PUBLISHED, _without_serve)]
        return f"the program gets the installed {THEIRS}.speech_engine, as --no-alias asks; its serve() is refused"
    found = importlib.util.find_spec(THEIRS) is not None
    if not found:  # multiprocessing imports the program again, in processes that get this list
        sys.path.append(os.path.join(os.path.dirname(__file__), "standin"))
    sys.meta_path[:0] = [_Finder(REPLACED if found else STANDING_IN), _Patched("uvicorn", _without_run)]
    beside = f"and {THEIRS}'s other products" if found else f"without {THEIRS}, which is not installed"
    return f"the program gets se-server in place of {THEIRS}.speech_engine, {beside}; --no-alias leaves it alone"


def stand_in() -> None:
    """Stand in for the published package in this process."""
    sys.meta_path.insert(0, _Finder(STANDING_IN))
    sys.modules[THEIRS] = importlib.import_module(OURS)


class _Finder(MetaPathFinder):
    """Finds the modules of this package under the published names."""

    def __init__(self, aliases: dict[str, str]) -> None:
        self._aliases = aliases

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        ours = self._aliases.get(name)
        return (
            None
            if ours is None
            else ModuleSpec(name, _Alias(ours), is_package=name in (THEIRS, f"{THEIRS}.speech_engine"))
        )


class _Alias(Loader):
    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._ours)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importlib has put the alias's there


class _Patched(MetaPathFinder):
    """Changes a module of another package once it is imported: what would serve by itself in each worker is refused.

    Args:
        name: the module.
        patch: changes it.
    """

    def __init__(self, name: str, patch: Callable[[Any], None]) -> None:
        self._name = name
        self._patch = patch

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader, self._patch)
        return spec


class _Patching(Loader):
    def __init__(self, loader: Loader, patch: Callable[[Any], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


def _without_run(uvicorn: Any) -> None:
    def run(*_: Any, **__: Any) -> None:
        refuse(
            "the program serves with uvicorn.run(), which se-server does not replace: run it with uvicorn, or pass its"
            " handlers to engine.serve()"
        )

    uvicorn.run = run


def _without_serve(published: Any) -> None:
    def serve(*_: Any, **__: Any) -> None:
        refuse(
            f"the program calls serve() of the installed {THEIRS}.speech_engine, which serves in one process by itself:"
            f" leave --no-alias out, or import {OURS}.speech_engine"
        )

    published.SpeechEngineServer.serve = serve
