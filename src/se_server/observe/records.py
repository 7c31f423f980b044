"""Log records that know their conversation: `conversation_id` and `event_id` of the handler that made them.

The ids are read when the record is made. A thread that writes it later is in another context.
"""

from __future__ import annotations

import logging
from typing import Any

from se_server.conversation.jobs import current_job, current_turn
from se_server.conversation.snapshot import MAX_ID
from se_server.telemetry._printable import text_of

CONVERSATION_ID, EVENT_ID = "conversation_id", "event_id"


def ids_of_context() -> tuple[str | None, object]:
    """Return the conversation's id, cut, and the event id of the handler that runs; None if unknown."""
    event_id: object
    turn = current_turn.get()
    if turn is not None:
        session, event_id = turn.owner, turn.event_id
    else:
        session, event_id = current_job.get() or (None, None)
    name = getattr(session, "conversation_id", None)
    return None if name is None else text_of(name)[:MAX_ID], event_id


class _Attributes(dict[str, Any]):
    """The attributes of a record. They hide the ids from `in`: `Logger.makeRecord` raises KeyError for an `extra` that
    would overwrite an attribute, and `extra={"conversation_id": ...}` is common in agents.
    """

    def __contains__(self, name: object) -> bool:
        return name != CONVERSATION_ID and name != EVENT_ID and super().__contains__(name)


class ConversationRecord(logging.LogRecord):
    """A record with the attributes `conversation_id` and `event_id`, for any formatter to use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attributes = _Attributes(self.__dict__)
        attributes[CONVERSATION_ID], attributes[EVENT_ID] = ids_of_context()
        self.__dict__ = attributes
