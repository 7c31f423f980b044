"""The requests and responses of the REST API as objects, without a schema library.

The API's objects grow fields all the time, so answers are wrapped, not parsed: every field is reachable the day the
API sends it. Annotations name the fields that are documented, for editors and type checkers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict
from urllib.parse import urlsplit

from se_server.sdk.dumps import chosen, json_of, without_none

OMIT: EllipsisType = ...
"""The value of a keyword that is left out of a request. `None` is not left out: it is sent as null."""


def _wrap(value: Any) -> Any:
    if isinstance(value, dict):
        return ApiObject(value)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


class ApiObject(Mapping[str, Any]):
    """A JSON object of the API, immutable: fields are attributes and keys at once, at any depth.

    `engine.config.asr.quality` and `engine.config["asr"]["quality"]` are the same. A field that is named like a
    method of mappings (`items`, `keys`, `values`, `get`) is reachable as a key only. Lists are new at every access,
    so changing one changes nothing here. Equal to a dict of the same content.

    Args:
        fields: the decoded JSON object; owned by this object from now on.
    """

    __slots__ = ("_fields",)

    _fields: dict[str, Any]
    _absent_is_none: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_fields", dict(fields))

    def model_dump(
        self, *, include: Any = None, exclude: Any = None, exclude_none: bool = False, **_options: object
    ) -> dict[str, Any]:
        """Return a copy as plain dicts and lists.

        Args:
            include, exclude: the fields to return or to leave out, at any depth, as in pydantic: a set of names, or
                a dict from a name to True or to the same for what it holds.
            exclude_none: leave out fields that are None.
            **_options: other options of pydantic's method are accepted and change nothing.
        """
        fields: dict[str, Any] = chosen({name: _plain(value) for name, value in self._fields.items()}, include, exclude)
        if exclude_none:
            fields = without_none(fields)
        return fields

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return the whole as JSON; `indent` is in spaces, other options are those of `model_dump`."""
        return json_of(self.model_dump(**options), indent)

    def __getitem__(self, name: str) -> Any:
        return _wrap(self._fields[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        # Unpickling and copying look for underscored names before `_fields` exists.
        if not name.startswith("_"):
            if name in self._fields:
                return _wrap(self._fields[name])
            if name in self._absent_is_none:
                return None
            raise AttributeError(f"the API sent no {name!r} here; it sent {', '.join(self._fields) or 'nothing'}")
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r}: answers of the API are read-only; model_dump() gives a copy")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __reduce__(self) -> tuple[type[ApiObject], tuple[dict[str, Any]]]:
        return type(self), (self._fields,)

    def __repr__(self) -> str:
        # Names only: values hold request headers with secrets, tokens, signed URLs.
        return f"<{type(self).__name__} {', '.join(self._fields)}>"


class EngineConfig(ApiObject):
    """All settings of one Speech Engine, as the API returns them."""

    __slots__ = ()

    _absent_is_none = frozenset({"access_info"})

    if TYPE_CHECKING:
        speech_engine_id: str
        name: str
        speech_engine: ApiObject
        asr: ApiObject
        tts: ApiObject
        turn: ApiObject
        vad: ApiObject
        conversation: ApiObject
        privacy: ApiObject
        call_limits: ApiObject
        auth: ApiObject
        language: str
        cascade_timeout_seconds: float
        tags: list[str]
        overrides: ApiObject
        metadata: ApiObject
        access_info: ApiObject | None


class EngineSummary(ApiObject):
    """One Speech Engine as it stands in a list; times are Unix seconds."""

    __slots__ = ()

    if TYPE_CHECKING:
        speech_engine_id: str
        name: str
        voice_id: str
        created_at_unix_secs: int
        updated_at_unix_secs: int
        tags: list[str]
        access_info: ApiObject


class EnginePage(ApiObject):
    """One page of Speech Engines.

    Attributes:
        speech_engines: the engines of this page.
        next_cursor: the argument of `list(cursor=...)` for the next page; None on the last.
        has_more: whether there is a next page.
    """

    __slots__ = ()

    _absent_is_none = frozenset({"next_cursor"})

    if TYPE_CHECKING:
        next_cursor: str | None
        has_more: bool

    @property
    def speech_engines(self) -> list[EngineSummary]:
        """The engines of this page."""
        return [EngineSummary(fields) for fields in self._fields.get("speech_engines") or ()]


class WebRTCToken(ApiObject):
    """The token with which a browser opens one conversation over WebRTC. Its values are secrets."""

    __slots__ = ()

    _absent_is_none = frozenset({"conversation_id"})

    if TYPE_CHECKING:
        token: str
        conversation_id: str | None


class SignedUrl(ApiObject):
    """The URL with which a browser opens one conversation over a WebSocket. Its value is a secret."""

    __slots__ = ()

    _absent_is_none = frozenset({"conversation_id"})

    if TYPE_CHECKING:
        signed_url: str
        conversation_id: str | None


class Conversation(ApiObject):
    """The record of one conversation, as the API returns it; its transcript is the callers' words.

    `metadata.termination_reason` is the API's reason for its end.
    """

    __slots__ = ()

    _absent_is_none = frozenset({"analysis", "agent_name", "user_id"})

    if TYPE_CHECKING:
        agent_id: str
        agent_name: str | None
        conversation_id: str
        status: str
        user_id: str | None
        transcript: list[ApiObject]
        metadata: ApiObject
        analysis: ApiObject | None
        has_audio: bool


class SecretId(TypedDict):
    """The value of a request header that the API takes from the workspace's secrets."""

    secret_id: str


class VariableName(TypedDict):
    """The value of a request header that the API takes from a dynamic variable of the conversation."""

    variable_name: str


HeaderValue = str | SecretId | VariableName
"""The value of a request header: a text, or a reference to a secret or to a dynamic variable."""


@dataclass(frozen=True, repr=False, slots=True)
class SpeechEngineConfig:
    """The address of your server for the API: the `speech_engine` argument of `create` and `update`.

    Args:
        ws_url: the WebSocket URL of your server, as the API reaches it.
        request_headers: headers the API sends with every upgrade request; None leaves them out of the request, `{}`
            clears them. A value is a text; `{"secret_id": "x"}`, a secret of the workspace; or
            `{"variable_name": "x"}`, the conversation's dynamic variable `x`.
    """

    ws_url: str
    request_headers: Mapping[str, HeaderValue] | None = None

    def model_dump(self, *, include: Any = None, exclude: Any = None, **_options: object) -> dict[str, Any]:
        """Return the fields to send, as a dict; `include` and `exclude` name fields, as in pydantic."""
        fields: dict[str, Any] = {"ws_url": self.ws_url}
        if self.request_headers is not None:
            fields["request_headers"] = dict(self.request_headers)
        dumped: dict[str, Any] = chosen(fields, include, exclude)
        return dumped

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return the fields to send as JSON; options as for `model_dump`."""
        return json_of(self.model_dump(**options), indent)

    def __repr__(self) -> str:
        # A query, the part before an @ and the values of headers may be secrets.
        url = urlsplit(self.ws_url)
        address = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
        return f"<SpeechEngineConfig {address} request_headers={list(self.request_headers or ())}>"
