"""The names by which user code is reported, and which code is the user's."""

from __future__ import annotations

import functools
import os
import sysconfig


def handler_name(handler: object) -> str:
    """Name user code as its author knows it: `module.function`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    module = getattr(handler, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def is_users_file(file: str) -> bool:
    """Whether a source file is the user's own, not one of Python, of an installed package or of this one."""
    return not file.startswith(_NOT_USERS)


_NOT_USERS = (
    "<frozen ",
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")},
)
