"""The event registry of a session: `on`, `off`, `once`."""

from __future__ import annotations

from se_server.conversation.handlers import nearest
from se_server.types import EVENTS, Handler


def check_event(event: str) -> None:
    """Refuse a name that would never fire.

    Raises:
        ValueError: `event` is no event's name.
    """
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}{nearest(str(event), EVENTS)}")


class EventRegistry:
    """Handlers by event: the permanent ones in the order registered, then those that run once."""

    __slots__ = ("_once", "_permanent")

    def __init__(self) -> None:
        self._permanent: dict[str, list[Handler]] = {}
        self._once: dict[str, list[Handler]] = {}

    def add(self, event: str, handler: Handler, *, once: bool) -> None:
        """Register `handler`.

        Raises:
            ValueError: `event` is no event's name.
            TypeError: `handler` cannot be called.
        """
        check_event(event)
        if not callable(handler):
            raise TypeError(f"the handler of {event!r} must be a function, not {type(handler).__name__}")
        (self._once if once else self._permanent).setdefault(event, []).append(handler)

    def remove(self, event: str, handler: Handler) -> None:
        """Remove one registration of `handler`, of either kind; none is no error, as in the published SDK."""
        check_event(event)
        for handlers in (self._permanent, self._once):
            if handler in handlers.get(event, ()):
                handlers[event].remove(handler)
                return

    def take(self, event: str) -> list[Handler]:
        """Return what is to run now, and forget those that run once."""
        return [*self._permanent.get(event, ()), *self._once.pop(event, ())]
