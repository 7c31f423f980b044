"""The `__main__` of a program that a worker runs: a file, a directory with `__main__.py`, or a module."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from se_server.errors import AppError
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.scripts import MAIN, MODULE, Script


def become_main(script: Script) -> tuple[CodeType, dict[str, Any]]:
    """Make a program the `__main__` of this process, with its arguments and its import path.

    Returns:
        The code to execute, and the namespace of the module.

    Raises:
        AppError: there is no such program, or it cannot be compiled.
    """
    sys.argv = [script.file, *script.arguments]
    if script.is_module:
        return _of_module(script.file, os.getcwd())
    path = script.path
    folder = path.parent
    if path.name == MAIN and os.path.isfile(folder / "__init__.py") and folder.name.isidentifier():
        return _of_module(folder.name, str(folder.parent))  # so that it may import from its package
    sys.path.insert(0, str(folder))
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise AppCrashed.of(script.file, error) from error
    return code, _namespace(str(path), None)


def _of_module(name: str, folder: str) -> tuple[CodeType, dict[str, Any]]:
    sys.path.insert(0, folder)
    spec = _find(name)
    if spec.submodule_search_locations is not None:
        if _spec_of(f"{name}.{Path(MAIN).stem}") is None:
            raise AppError(f"se-server run {MODULE} {name}: the package has no {MAIN}, which runs it")
        spec = _find(f"{name}.{Path(MAIN).stem}")
    try:
        code = None if spec.loader is None else spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
    except SyntaxError as error:
        raise AppCrashed.of(name, error) from error
    if code is None or spec.origin is None:
        raise AppError(f"se-server run {MODULE} {name}: the module has no code of Python")
    sys.argv[0] = spec.origin
    return code, _namespace(spec.origin, spec)


def _find(name: str) -> ModuleSpec:
    found = _spec_of(name)
    if found is None:
        raise AppError(f"se-server run {MODULE} {name}: there is no such module in {os.getcwd()}, nor an installed one")
    return found


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _namespace(file: str, spec: ModuleSpec | None) -> dict[str, Any]:
    main = ModuleType("__main__")
    main.__file__ = file
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    if spec is not None:
        main.__spec__, main.__package__, main.__loader__ = spec, spec.parent, spec.loader
    sys.modules["__main__"] = main
    return vars(main)
