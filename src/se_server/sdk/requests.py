"""Requests to the REST API, addressed and signed, free of I/O: both clients share every rule."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import quote, urlsplit

import orjson

from se_server import errors

DEFAULT_BASE_URL = "https://api.elevenlabs.io"
DEFAULT_TIMEOUT_S = 240.0
DEFAULT_MAX_RETRIES = 2

API_KEY_VARIABLE = "ELEVENLABS_API_KEY"
API_KEY_HEADER = "xi-api-key"


class RequestOptions(TypedDict, total=False):
    """The settings that one call may override, with the names of the published SDK.

    Keys:
        timeout_in_seconds: instead of the client's `timeout`.
        max_retries: the most repetitions of a call that may be repeated; 2 by default.
        additional_headers, additional_query_parameters, additional_body_parameters: sent as well, and win.
    """

    timeout_in_seconds: float
    max_retries: int
    additional_headers: Mapping[str, str]
    additional_query_parameters: Mapping[str, Any]
    additional_body_parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API, before it is addressed and signed. Values that are OMIT are already gone.

    Attributes:
        answer_has: the field without which an answer is none; empty for a call whose answer does not matter.
    """

    method: str
    path: str
    answer_has: str = ""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """One HTTP request, ready to send.

    Attributes:
        secrets: texts to remove from every text that comes back.
        timeout_s: the limit for connecting and for each wait for bytes, None for the HTTP client's own.
    """

    method: str
    url: str
    params: dict[str, str]
    headers: dict[str, str]
    content: bytes | None
    timeout_s: float | None
    max_retries: int
    answer_has: str
    secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the request in messages, without host and query."""
        return f"{self.method} {urlsplit(self.url).path}"


class ClientWrapper:
    """Gives the clients and their resources the API key and the address.

    Args:
        api_key: the key; None or blank means the environment variable ELEVENLABS_API_KEY, read at each request.
        base_url: the API's address, with a path in front if need be.
        timeout_s: see `Prepared`; None for the HTTP client's own.

    Raises:
        ConfigError: a key that no HTTP header can carry, or a `base_url` that is not an http(s) URL.
        TypeError: a key that is not text.
    """

    __slots__ = ("_api_key", "_base_url", "_timeout_s")

    def __init__(self, api_key: str | None, base_url: str | None, timeout_s: float | None) -> None:
        if api_key is not None and not isinstance(api_key, str):
            raise TypeError(
                f"api_key is one str, not {type(api_key).__name__}; only SpeechEngineServer takes several keys"
            )
        self._api_key = api_key
        self._base_url = (base_url or DEFAULT_BASE_URL).strip().rstrip("/")
        self._timeout_s = timeout_s
        url = urlsplit(self._base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise errors.ConfigError("base_url must be an address like https://api.elevenlabs.io")
        self.api_key()

    def api_key(self) -> str | None:
        """Return the API key in use now, None without one."""
        key = (self._api_key or "").strip() or os.environ.get(API_KEY_VARIABLE, "").strip()
        if not key:
            return None
        return _checked(API_KEY_HEADER, key)

    def get_headers(self) -> dict[str, str]:
        """Return the headers of every request; `xi-api-key` is among them if there is a key."""
        headers = {"accept": "application/json", "user-agent": "se-server"}
        key = self.api_key()
        if key is not None:
            headers[API_KEY_HEADER] = key
        return headers

    @property
    def host(self) -> str:
        """The API's host and port, without what an address may carry before an `@`."""
        return urlsplit(self._base_url).netloc.rpartition("@")[2]

    def prepare(self, call: Call, options: RequestOptions | None) -> Prepared:
        """Address and sign a call.

        Raises:
            ConfigError: there is no API key.
            TypeError: an unknown option, or a value that JSON cannot carry.
        """
        given = _options(options)
        headers = self.get_headers()
        for name, value in given.get("additional_headers", {}).items():
            if value is not None:
                headers[name.lower()] = _checked(name.lower(), str(value).strip())
        if API_KEY_HEADER not in headers:
            raise errors.ConfigError(f"there is no API key: pass api_key=, or set {API_KEY_VARIABLE}")
        content = None
        more_body = given.get("additional_body_parameters", {})
        if call.body is not None or more_body:
            content = _written({**(call.body or {}), **more_body})
            headers["content-type"] = "application/json"
        query = {**call.query, **given.get("additional_query_parameters", {})}
        return Prepared(
            method=call.method,
            url=self._base_url + call.path,
            params={name: _query_text(value) for name, value in query.items() if value is not None},
            headers=headers,
            content=content,
            timeout_s=given.get("timeout_in_seconds", self._timeout_s),
            max_retries=given.get("max_retries", DEFAULT_MAX_RETRIES),
            answer_has=call.answer_has,
            secrets=_secrets(headers),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}, {'with a key' if self.api_key() else 'without a key'}>"


def segment(name: str, value: str) -> str:
    """Return `value` as one segment of a path, with every special character escaped.

    Raises:
        ValueError: it is empty, or one of the two names that a path would resolve away.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    stripped = value.strip()
    if not stripped or stripped in (".", ".."):
        raise ValueError(f"{name} must be the id of a Speech Engine, not {value!r}")
    return quote(stripped, safe="")


def _options(options: RequestOptions | None) -> RequestOptions:
    if options is None:
        return {}
    # `chunk_size` is for downloads of the published SDK; it means nothing here, and harms nothing.
    unknown = [name for name in options if name not in RequestOptions.__annotations__ and name != "chunk_size"]
    if unknown:
        raise TypeError(f"request_options has no {unknown[0]!r}; it has {', '.join(RequestOptions.__annotations__)}")
    return {name: value for name, value in options.items() if value is not None}  # type: ignore[return-value]


def _checked(name: str, value: str) -> str:
    """Refuse what the HTTP library would refuse with the value in its message."""
    if not (value.isascii() and value.isprintable()) or (name == API_KEY_HEADER and " " in value):
        what = "the API key" if name == API_KEY_HEADER else f"the header {name!r}"
        raise errors.ConfigError(f"{what} holds characters that an HTTP header cannot carry")
    return value


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    key = headers[API_KEY_HEADER]
    found = {key, key.partition("_residency_")[0], headers.get("authorization", "")}
    # The longest first: a key holds its own base.
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def _query_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _written(body: dict[str, Any]) -> bytes:
    """Write a body as JSON.

    Raises:
        TypeError: JSON cannot carry a value; names the argument.
    """
    try:
        return orjson.dumps(body, default=_dump, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError as error:
        for name, value in body.items():
            try:
                orjson.dumps(value, default=_dump, option=orjson.OPT_PASSTHROUGH_DATACLASS)
            except orjson.JSONEncodeError as reason:
                raise TypeError(f"{name} cannot be sent as JSON: {reason}") from error
        raise


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        if hasattr(value, "model_fields_set"):
            # A pydantic model: what its user did not set is left out, as the published SDK does.
            return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return value.model_dump()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"cannot send a {type(value).__name__}: dicts, lists and objects with model_dump() can be sent")
