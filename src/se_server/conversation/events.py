"""`on`, `off` and `once` of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from se_server.conversation.handlers import event_parameters
from se_server.conversation.mistakes import check_handler
from se_server.spelling import nearest
from se_server.types import EVENTS, EventName, Handler

H = TypeVar("H", bound=Handler)
E = TypeVar("E", bound="EventEmitter")


class EventEmitter:
    """Registers handlers by event. A session runs the permanent ones in order, then those of `once`."""

    __slots__ = ()

    _permanent: dict[str, list[Handler]] | None
    _once: dict[str, list[Handler]] | None
    _check_thread: Callable[[str], None]

    if TYPE_CHECKING:
        # `SpeechEngineSession` types them; its subclasses may have the published SDK's signatures.

        def on(self, event: EventName, *handler: Any, **options: Any) -> Any: ...

        def once(self, event: EventName, *handler: Any, **options: Any) -> Any: ...

        def off(self, event: EventName, *handler: Any, **options: Any) -> Any: ...

    else:

        def on(self: E, event: str, handler: Handler | None = None) -> E | Callable[[H], H]:
            """Register `handler` for `event` and return the session; without a handler, act as a decorator.

            Raises:
                ValueError: `event` is not the name of an event.
                TypeError: `handler` is not a function, takes other arguments than the event has, or is a generator
                    function.
                WrongThread: called from a thread other than the session's.
            """
            self._check_thread("on")
            check_event(event)
            if self._permanent is None:
                self._permanent = {}
            return self._register(self._permanent, event, handler)

        def once(self: E, event: str, handler: Handler | None = None) -> E | Callable[[H], H]:
            """Like `on`, but the handler runs once; it runs after the permanent ones."""
            self._check_thread("once")
            check_event(event)
            if self._once is None:
                self._once = {}
            return self._register(self._once, event, handler)

        def off(self: E, event: str, handler: Handler) -> E:
            """Remove a handler registered with `on` or `once`, if it is there, and return the session."""
            self._check_thread("off")
            check_event(event)
            for registry in (self._permanent, self._once):
                if registry is not None and handler in registry.get(event, ()):
                    registry[event].remove(handler)
                    break
            return self

    def _register(
        self: E, registry: dict[str, list[Handler]], event: str, handler: Handler | None
    ) -> E | Callable[[H], H]:
        def add(function: H) -> H:
            if not callable(function):
                raise TypeError(f"the handler of {event!r} must be a function, not {type(function).__name__}")
            check_handler(function, event, event_parameters(event))
            registry.setdefault(event, []).append(function)
            return function

        if handler is None:
            return add
        add(handler)
        return self


def check_event(event: str) -> None:
    """Refuse a name that would never fire.

    Raises:
        ValueError: `event` is not the name of an event.
    """
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}{nearest(str(event), EVENTS)}")
