"""The calls of the REST API that se-server knows: their paths, their fields, and what is checked before sending."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any, Literal, Protocol

from se_server.sdk.models import OMIT
from se_server.sdk.requests import Call, segment

ENGINES = "/v1/speech-engine"
CONVERSATIONS = "/v1/convai/conversation"
RECORDS = "/v1/convai/conversations"

SortDirection = Literal["asc", "desc"]
SortBy = Literal["name", "created_at", "updated_at", "call_count_7d"]


class Dumpable(Protocol):
    """An object that turns into a dict, as pydantic models and this package's own do."""

    def model_dump(self) -> dict[str, Any]: ...


Setting = Mapping[str, Any] | Dumpable | EllipsisType | None
"""A part of an engine's settings. Left out (OMIT) it is not sent; None is sent as null."""


def list_engines(
    *,
    page_size: int | None,
    search: str | None,
    sort_direction: str | None,
    sort_by: str | None,
    cursor: str | None,
) -> Call:
    """List Speech Engines, one page."""
    _within("page_size", page_size, 1, 100)
    return Call(
        "GET",
        ENGINES,
        "speech_engines",
        query={
            "page_size": page_size,
            "search": search,
            "sort_direction": sort_direction,
            "sort_by": sort_by,
            "cursor": cursor,
        },
    )


def get_engine(engine_id: str) -> Call:
    """Fetch one Speech Engine."""
    return Call("GET", _engine_path(engine_id), "speech_engine_id")


def create_engine(**fields: Any) -> Call:
    """Make a Speech Engine of the given fields."""
    return Call("POST", ENGINES, "speech_engine_id", body=_body(fields))


def update_engine(engine_id: str, **fields: Any) -> Call:
    """Change the given fields of a Speech Engine."""
    return Call("PATCH", _engine_path(engine_id), "speech_engine_id", body=_body(fields))


def duplicate_engine(engine_id: str, *, name: str | EllipsisType | None) -> Call:
    """Make a copy of a Speech Engine."""
    body = {} if isinstance(name, EllipsisType) else {"name": name}
    return Call("POST", f"{_engine_path(engine_id)}/duplicate", "speech_engine_id", body=body)


def delete_engine(engine_id: str) -> Call:
    """Delete a Speech Engine."""
    return Call("DELETE", _engine_path(engine_id))


def webrtc_token(agent_id: str, **query: Any) -> Call:
    """Make a token for one conversation over WebRTC."""
    segment("agent_id", agent_id)
    return Call("GET", f"{CONVERSATIONS}/token", "token", query={"agent_id": agent_id.strip(), **query})


def signed_url(agent_id: str, **query: Any) -> Call:
    """Make a URL for one conversation over a WebSocket."""
    segment("agent_id", agent_id)
    return Call("GET", f"{CONVERSATIONS}/get-signed-url", "signed_url", query={"agent_id": agent_id.strip(), **query})


def get_conversation(conversation_id: str, **query: Any) -> Call:
    """Fetch the record of one conversation."""
    return Call("GET", f"{RECORDS}/{segment('conversation_id', conversation_id)}", "conversation_id", query=query)


def _engine_path(engine_id: str) -> str:
    return f"{ENGINES}/{segment('speech_engine_id', engine_id)}"


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    _within("cascade_timeout_seconds", fields["cascade_timeout_seconds"], 2, 15)
    return {name: value for name, value in fields.items() if value is not OMIT}


def _within(name: str, value: float | EllipsisType | None, low: int, high: int) -> None:
    if value is None or isinstance(value, EllipsisType):
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value!r}")
