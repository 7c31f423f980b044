"""Mistakes in handlers that would otherwise be silent: some show when a handler is given, others when it has run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterable, Coroutine, Generator, Iterable, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from se_server.conversation.naming import handler_name, is_users_file
from se_server.signatures import signature_of, signature_text
from se_server.types import USER_TRANSCRIPT, Handler

RIGHT_FORM = "`await session.send_response(...)`"


# --- when it is given -----------------------------------------------------------------------------------------------


def check_callback(function: Handler, name: str, parameters: Sequence[str]) -> None:
    """Refuse a callback that would fail whenever it is called, or never run.

    Args:
        function: the user's code.
        name: the callback's, such as `on_transcript`.
        parameters: the names of what it is called with.

    Raises:
        TypeError: it is a generator function, or takes other parameters, or the session first; one sentence that shows
            the right form.
    """
    form = f"{name}({', '.join(parameters)})"
    if not accepts(function, len(parameters)):
        raise TypeError(
            f"{_short_name(function)}{signature_text(function)} cannot be called as {form}: write `async def {form}`"
        )
    if _is_swapped(function, parameters):
        raise TypeError(
            f"{_short_name(function)}{signature_text(function)} names the session first, and is called as {form}:"
            f" write `async def {form}`"
        )
    _refuse_generator(function, f"async def {form}", name == "on_transcript")


def check_handler(function: Handler, event: str, parameters: Sequence[str]) -> None:
    """Refuse a handler of `session.on` that would fail at every event, or never run.

    Raises:
        TypeError: as for `check_callback`.
    """
    form = f"handler({', '.join(parameters)})"
    if not accepts(function, len(parameters)):
        what = f"({', '.join(parameters)}) alone" if parameters else "no argument"
        raise TypeError(
            f"{_short_name(function)}{signature_text(function)} cannot handle {event!r}, called with {what}:"
            f" write `async def {form}` and take the session from the code around it"
        )
    _refuse_generator(function, f"async def {form}", event == USER_TRANSCRIPT)


def accepts(function: Handler, count: int) -> bool:
    """Whether a function can be called with `count` positional arguments; True if there is no way to know."""
    bound = 0
    plain: object = function
    if isinstance(plain, MethodType):
        bound, plain = 1, plain.__func__
    if isinstance(plain, FunctionType):  # without `inspect`, which takes 20 us: sessions register handlers, too
        code, given = plain.__code__, count + bound
        needed = code.co_argcount - len(plain.__defaults__ or ())
        if given < needed or (given > code.co_argcount and not code.co_flags & inspect.CO_VARARGS):
            return False
        names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        return all(name in (plain.__kwdefaults__ or {}) for name in names)
    try:
        # The wrapper is called, not what it wraps: it may add arguments.
        signature = signature_of(function, follow_wrapped=False)
    except (TypeError, ValueError):  # a builtin without a signature
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _is_swapped(function: Handler, parameters: Sequence[str]) -> bool:
    """Whether a function's own names say that it takes the session first, which comes last."""
    plain: object = function
    bound = 0
    if isinstance(plain, MethodType):
        bound, plain = 1, plain.__func__
    if len(parameters) < 2 or not isinstance(plain, FunctionType):
        return False
    names = plain.__code__.co_varnames[bound : plain.__code__.co_argcount]
    return len(names) > 1 and names[0] == parameters[-1] == "session"


def is_generator_function(function: object) -> bool:
    """Whether calling it runs nothing, because it yields: a generator function, plain or async, in any wrapping."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", None)  # noqa: B004  its code is looked at
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _refuse_generator(function: Handler, form: str, answers: bool) -> None:
    if is_generator_function(function):
        way_out = f", and give what it yields to {RIGHT_FORM}" if answers else " without `yield`"
        raise TypeError(f"{_short_name(function)} yields, so calling it runs nothing: write `{form}`{way_out}")


def _short_name(function: object) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


# --- when it has run ------------------------------------------------------------------------------------------------


class Returned:
    """A result of a plain function, awaited as the result of a coroutine."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, object]:
        yield from ()
        return self._value


def mistake_in(handler: Handler, event: str, result: object, is_silent: bool = False) -> str | None:
    """Describe the mistake that a handler's result shows: an answer that was returned and not sent; else None.

    Args:
        handler: the user's code.
        event: what it has handled.
        result: what it has returned.
        is_silent: whether the turn has sent nothing, so that a result of any type was probably meant as its answer.
    """
    name = handler_name(handler)
    way_out = f": write {RIGHT_FORM}" if event == USER_TRANSCRIPT else ": only a handler of user_transcript answers"
    if result is None or isinstance(result, (bool, asyncio.Future)):
        return None
    if type(result).__module__ == "unittest.mock":  # the result of an AsyncMock has every method
        return None
    if isinstance(result, (str, bytes)) or _is_list_of_texts(result):
        return f"{name} returned a text, which nobody speaks{way_out}"
    if isinstance(result, Coroutine):
        what = getattr(result, "__qualname__", "a coroutine")
        result.close()  # else Python warns of it, too
        return f"{name} returned {what}(), which nobody awaits: write `return await ...`"
    if inspect.isgenerator(result) or inspect.isasyncgen(result) or isinstance(result, AsyncIterable):
        return f"{name} returned a stream ({type(result).__name__}), which nobody reads{way_out}"
    if is_silent:
        return f"{name} sent nothing and returned a value ({type(result).__name__}), which nobody speaks{way_out}"
    return None


def _is_list_of_texts(result: object) -> bool:
    return isinstance(result, (list, tuple)) and bool(result) and all(isinstance(item, str) for item in result)


# --- nothing that answers -------------------------------------------------------------------------------------------


def may_register(functions: Iterable[Handler | None]) -> bool:
    """Whether one of these callbacks, or what it calls by name, may register a handler with `session.on`.

    Args:
        functions: callbacks that get the session.
    """
    waiting: list[Any] = [function for function in functions if function is not None]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_LOOKED_AT:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, CodeType):
            if not _REGISTERING.isdisjoint(item.co_names):
                return True
            waiting += [const for const in item.co_consts if isinstance(const, CodeType)]
        elif isinstance(item, FunctionType):
            if not is_users_module(item.__module__):
                continue
            waiting.append(item.__code__)
            waiting += [item.__globals__[name] for name in names_in(item.__code__) if name in item.__globals__]
            waiting += [cell.cell_contents for cell in item.__closure__ or () if _is_set(cell)]
        elif isinstance(item, MethodType):
            waiting += [item.__func__, type(item.__self__)]
        elif isinstance(item, functools.partial):
            waiting += [item.func, *item.args]
        elif isinstance(item, type):
            if is_users_module(item.__module__):
                waiting += [value for value in vars(item).values() if callable(value)]
        elif not isinstance(item, (ModuleType, str, bytes, int, float)):
            waiting.append(type(item))
    return bool(waiting)


_MAX_LOOKED_AT = 1000
_REGISTERING = frozenset({"on", "once", "USER_TRANSCRIPT"})


def is_users_module(module: str | None) -> bool:
    """Whether a module is the user's own code, no library's."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is not None and is_users_file(file)


def names_in(code: CodeType) -> set[str]:
    """Return the names that a code, and the code inside it, looks up in its module or as attributes."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= names_in(const)
    return names


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
