"""Hints about an APP that loads, or nearly: handlers with a misspelt name, and a function given as a module."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from se_server.conversation.mistakes import is_users_module
from se_server.telemetry._printable import text_of

CUTOFF = 0.8
"""`on_connect` is near `on_disconnect`; `on_message` is near nothing."""


def misspelt_handlers(found: object, known: Sequence[str], given: Container[str]) -> str:
    """Return a sentence's end about functions that are called nearly as a handler, and that nothing uses; or nothing.

    Args:
        found: the APP.
        known: the names of handlers.
        given: those that the APP has.
    """
    space = vars(found if isinstance(found, ModuleType) else type(found))
    for name, function in list(space.items()):
        if not name.startswith("on_") or name in known or not isinstance(function, FunctionType):
            continue
        close = [near for near in difflib.get_close_matches(name, known, n=3, cutoff=CUTOFF) if near not in given]
        if close and is_users_module(function.__module__) and not _is_used(function):
            return f"has {name}, which nothing calls; did you mean {close[0]}?"
    return ""


def _is_used(function: FunctionType) -> bool:
    """Whether the function's module names it a second time, or a decorator may have registered it."""
    try:
        source = inspect.getsource(sys.modules[function.__module__])
        own = inspect.getsource(function)
    except (OSError, TypeError, KeyError):
        return True  # there is no way to know
    return own.lstrip().startswith("@") or len(re.findall(rf"\b{function.__name__}\b", source)) > 1


def as_attribute(name: str) -> str:
    """Return a hint for a module that does not exist, and whose name is that of a module and its attribute."""
    module, _, attribute = name.rpartition(".")
    return f"; did you mean {module}:{attribute}?" if hasattr(sys.modules.get(module), attribute) else ""


def missing_variable(error: BaseException) -> str:
    """Return the sentence for `os.environ["NAME"]` of a variable that is not set; empty for any other error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if type(error) is not KeyError or trace is None or trace.tb_frame.f_globals.get("__name__") != "os":
        return ""
    return f"the environment variable {text_of(error.args[0])} is not set"


def lacks_key(text: str) -> bool:
    """Whether an error's message is that of an LLM package without an API key: it says all, without a traceback."""
    return (
        re.match(r"(?i)missing credentials|no api[ _]key|missing api[ _]key|the api_key client option must", text)
        is not None
    )


def of_python(module: ModuleType) -> str:
    """Return a sentence's end about a module of Python's own, which hides the user's; or nothing."""
    name = module.__name__
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return ""
    own = Path(*name.split(".")).with_suffix(".py")
    way_out = f"did you mean {own}?" if own.is_file() else "give your module another name"
    return f"is the module {name} of Python's own library; {way_out}"


def other_file(spec: str) -> str:
    """Return a hint for an APP that is an address, another kind of file, or nearly a module; or nothing."""
    if "://" in spec:
        return "; an APP is a module or a file, not an address"
    if os.path.isfile(spec):  # False, where Path raises, for names that no file can have
        return "; it is a file whose name does not end in .py"
    if spec.lower().endswith(".py") and os.path.isfile(spec[:-3] + ".py"):
        return f"; did you mean {spec[:-3]}.py?"
    package, _, name = spec.partition(":")[0].rpartition(".")
    folder = Path(*package.split("."))
    known = [path.stem for path in folder.glob("*.py")] if package and folder.is_dir() else []
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {package}.{close[0]}?" if close else ""


def nearest_name(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return the end of a sentence that asks for the known name nearest to this one; empty if none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
