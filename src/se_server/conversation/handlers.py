"""User code of a server: its callbacks, and what each is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from se_server.conversation.mistakes import check_callback, may_register
from se_server.conversation.naming import handler_name as handler_name
from se_server.spelling import nearest
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
        TypeError: a callback is not a function, cannot be called as above, or is a generator function.
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
            if handler is not None:
                check_callback(handler, name, PARAMETERS[name])

    @classmethod
    def of(cls, source: Mapping[str, object] | object) -> Handlers:
        """Pick the callbacks out of a mapping, a module or any object.

        Raises:
            TypeError: a key of the mapping is not the name of a callback, or a callback cannot be called.
        """
        if isinstance(source, Mapping):
            for name in source:
                if name not in HANDLER_NAMES:
                    raise TypeError(f"unknown handler {name!r}{nearest(name, HANDLER_NAMES)}")
            return cls(**source)
        return cls(**{name: getattr(source, name, None) for name in HANDLER_NAMES})

    def may_answer(self) -> bool:
        """Whether a transcript can reach a handler: `on_transcript`, or one that another callback may register."""
        return self.on_transcript is not None or may_register((self.on_init,))

    def for_event(self, event: str) -> Handler | None:
        """Return the callback of an event."""
        handler: Handler | None = getattr(self, _CALLBACK[event])
        return handler


HANDLER_NAMES = tuple(field.name for field in fields(Handlers))

PARAMETERS = {
    "on_init": ("conversation_id", "session"),
    "on_transcript": ("transcript", "session"),
    "on_close": ("session",),
    "on_disconnect": ("session",),
    "on_error": ("error", "session"),
    "on_interrupt": ("turn", "session"),
}
"""The arguments of the callbacks. Handlers of `session.on` get the same without the session."""

_CALLBACK = {
    INIT: "on_init",
    USER_TRANSCRIPT: "on_transcript",
    CLOSE: "on_close",
    DISCONNECTED: "on_disconnect",
    ERROR: "on_error",
    INTERRUPTED: "on_interrupt",
}


def event_parameters(event: str) -> tuple[str, ...]:
    """Return the names of what a handler of `session.on` is called with."""
    return PARAMETERS[_CALLBACK[event]][:-1]


NO_HANDLERS = Handlers()
