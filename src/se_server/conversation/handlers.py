"""User code of a server: its callbacks, and the names by which they are reported."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields

from se_server.options import nearest
from se_server.types import CLOSE, DISCONNECTED, ERROR, INIT, INTERRUPTED, USER_TRANSCRIPT, Handler


@dataclass(frozen=True)
class Handlers:
    """The callbacks of `serve()`, shared by all its sessions; plain functions or coroutine functions.

    Attributes:
        on_init: `(conversation_id, session)`
        on_transcript: `(transcript, session)`
        on_close: `(session)`
        on_disconnect: `(session)`
        on_error: `(error, session)`
        on_interrupt: `(turn, session)`: what was sent of an answer that a newer transcript superseded

    Raises:
        TypeError: a callback cannot be called.
    """

    on_init: Handler | None = None
    on_transcript: Handler | None = None
    on_close: Handler | None = None
    on_disconnect: Handler | None = None
    on_error: Handler | None = None
    on_interrupt: Handler | None = None

    def __post_init__(self) -> None:
        for name in HANDLER_NAMES:
            handler = getattr(self, name)
            if handler is not None and not callable(handler):
                raise TypeError(f"{name} must be a function, not {type(handler).__name__}")

    @classmethod
    def of(cls, source: Mapping[str, object] | object) -> Handlers:
        """Pick the callbacks out of a mapping, a module or any object.

        Raises:
            TypeError: a key of the mapping is no callback's name, or a callback cannot be called.
        """
        if isinstance(source, Mapping):
            for name in source:
                if name not in HANDLER_NAMES:
                    raise TypeError(f"unknown handler {name!r}{nearest(name, HANDLER_NAMES)}")
            return cls(**source)
        return cls(**{name: getattr(source, name, None) for name in HANDLER_NAMES})

    def for_event(self, event: str) -> Handler | None:
        """Return the callback of an event."""
        handler: Handler | None = getattr(self, _CALLBACK[event])
        return handler


HANDLER_NAMES = tuple(field.name for field in fields(Handlers))

_CALLBACK = {
    INIT: "on_init",
    USER_TRANSCRIPT: "on_transcript",
    CLOSE: "on_close",
    DISCONNECTED: "on_disconnect",
    ERROR: "on_error",
    INTERRUPTED: "on_interrupt",
}

NO_HANDLERS = Handlers()


def handler_name(handler: object) -> str:
    """Name user code as its author knows it: `module.function`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    module = getattr(handler, "__module__", None)
    return f"{module}.{name}" if module else str(name)
