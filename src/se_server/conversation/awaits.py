"""Calls that lack their `await`: found in the source of a handler that has sent nothing."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from se_server.conversation.mistakes import is_users_module, names_in
from se_server.conversation.naming import handler_name
from se_server.types import Handler


def forgotten_await(handler: Handler, args: tuple[Any, ...]) -> str | None:
    """Describe the first call in a handler's source that makes a coroutine and lets it go; None if there is none.

    Functions of the user that the handler refers to are read, too.

    Args:
        handler: the user's code, which has sent nothing.
        args: what it was called with.
    """
    while isinstance(handler, functools.partial):
        args = (*handler.args, *args)
        handler = handler.func
    owner = getattr(handler, "__self__", None)
    function: Any = getattr(handler, "__func__", handler)
    if not isinstance(function, FunctionType):
        owner, function = handler, getattr(type(handler), "__call__", None)  # noqa: B004  its code is read
        if not isinstance(function, FunctionType):
            return None
    if owner is not None:
        args = (owner, *args)
    code = function.__code__
    if code not in _forgotten:
        known = dict(zip(code.co_varnames[: code.co_argcount], args, strict=False))
        _forgotten[code] = _find_in_reach(function, known)
    found = _forgotten[code]
    if found is None:
        return None
    called, place, is_plain = found
    way_out = f"{'`async def` and ' if is_plain else ''}`await {called}`"
    return (
        f"{handler_name(handler)} sent nothing: it calls {place} without `await`, which runs nothing: write {way_out}"
    )


_Forgotten = tuple[str, str, bool]
"""The call, the call with its place, and whether a plain function makes it."""
_forgotten: dict[CodeType, _Forgotten | None] = {}
"""By the code of handlers, so that each source is read once."""
_MAX_READ = 20


def _find_in_reach(handler: FunctionType, known: dict[str, Any]) -> _Forgotten | None:
    waiting: list[tuple[FunctionType, dict[str, Any]]] = [(handler, known)]
    seen = {handler.__code__}
    for function, values in waiting:  # it grows
        found = _find_forgotten(function, values, "" if function is handler else f"in {function.__qualname__}, ")
        if found is not None:
            return found
        for other in _functions_in_reach(function, values):
            if other.__code__ not in seen and len(seen) < _MAX_READ and is_users_module(other.__module__):
                seen.add(other.__code__)
                owner = next((value for value in values.values() if _has_method(value, other)), None)
                waiting.append((other, {} if owner is None else {other.__code__.co_varnames[0]: owner}))
    return None


def _functions_in_reach(function: FunctionType, values: dict[str, Any]) -> Iterator[FunctionType]:
    """Return the functions that a function refers to by name: of its module, of its arguments, or in a table."""
    names = names_in(function.__code__)
    for name in names & function.__globals__.keys():
        item = function.__globals__[name]
        for one in item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else (item,):
            if isinstance(one, FunctionType):
                yield one
    for value in values.values():
        for name in names:
            method = inspect.getattr_static(type(value), name, None)
            if isinstance(method, FunctionType) and method.__code__.co_argcount:
                yield method


def _has_method(value: object, function: FunctionType) -> bool:
    return inspect.getattr_static(type(value), function.__name__, None) is function


def _find_forgotten(function: FunctionType, known: dict[str, Any], where: str) -> _Forgotten | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):  # no source, or a lambda inside an expression
        return None
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    names = dict(function.__globals__)
    for name, cell in cells:
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            names.pop(name, None)
    names |= known
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Expr, ast.Assign)) or not isinstance(node.value, ast.Call):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else []
        is_dropped = all(isinstance(target, ast.Name) and target.id not in read for target in targets)
        if is_dropped and _makes_coroutine(node.value.func, names):
            called = f"{ast.unparse(node.value.func)}(...)"
            line = function.__code__.co_firstlineno + node.lineno - 1
            is_plain = not function.__code__.co_flags & inspect.CO_COROUTINE
            return called, f"{called} ({where}line {line})", is_plain
    return None


def _makes_coroutine(called: ast.expr, names: dict[str, Any]) -> bool:
    found = _look_up(called, names)
    if found is not None:
        return _is_coroutine_function(found)
    # The argument of a function that was not called from here: its value is unknown.
    return isinstance(called, ast.Attribute) and called.attr == "send_response"


def _look_up(node: ast.expr, names: dict[str, Any]) -> Any:
    """Find what an expression names, without running properties."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _look_up(node.value, names)
        if owner is None or isinstance(owner, (ModuleType, type)):
            return getattr(owner, node.attr, None)
        own = getattr(owner, "__dict__", {})
        return own[node.attr] if node.attr in own else getattr(type(owner), node.attr, None)
    return None


def _is_coroutine_function(function: Any) -> bool:
    while isinstance(function, (functools.partial, MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    if inspect.iscoroutinefunction(function):
        return True
    owner = getattr(function, "__objclass__", None)  # compiled methods do not show what they are
    return owner is not None and owner.__module__.startswith("se_server.") and function.__name__ in _OUR_COROUTINES


_OUR_COROUTINES = ("send_response", "run")
