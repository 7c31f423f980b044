"""The names by which user code is reported, and which code and frames are the user's."""

from __future__ import annotations

import functools
import os
import sysconfig
from types import TracebackType


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


def traceback_of_users(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error from the first frame that is not the server's; all of it if there is none."""
    first = error.__traceback__
    # Compare modules: frames of compiled code have no file path.
    while first is not None and str(first.tb_frame.f_globals.get("__name__")).startswith("se_server."):
        first = first.tb_next
    return first or error.__traceback__


_NOT_USERS = (
    "<frozen ",
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    *("src/se_server/", "ext/se_server/"),  # compiled code names its sources so
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")},
)
