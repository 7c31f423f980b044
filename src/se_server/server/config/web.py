"""Applications of web frameworks are not APPs: they have a server of their own."""

from __future__ import annotations

import inspect

from se_server.signatures import signature_of

_KINDS = {("scope", "receive", "send"): "an ASGI", ("environ", "start_response"): "a WSGI"}


def kind_of_web_application(found: object) -> str | None:
    """Return the kind of web application that an object is, with its article; None if it is not one."""
    if isinstance(found, type):
        return None
    if (type(found).__module__, type(found).__name__) == ("aiohttp.web_app", "Application"):
        return "an aiohttp"
    call = found if inspect.isroutine(found) else getattr(type(found), "__call__", None)  # noqa: B004 - its signature
    try:
        names = tuple(signature_of(call).parameters) if callable(call) else ()
    except (TypeError, ValueError):  # a builtin without a signature
        return None
    return next((kind for parameters, kind in _KINDS.items() if names[-len(parameters) :] == parameters), None)


def way_out(kind: str) -> str:
    """Return the end of an error's sentence about such an application."""
    if kind == "a WSGI":
        return (
            "is a WSGI application, which has no WebSockets: se-server runs a function or an object with on_transcript"
        )
    return (
        f"is {kind} application: run it with its own server, and in its WebSocket route `await"
        " engine.create_session(websocket, on_transcript=...).run()`; se-server runs a function or an object with"
        " on_transcript"
    )
