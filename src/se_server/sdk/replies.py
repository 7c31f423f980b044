"""Interpret the replies of the REST API without I/O: results, exceptions, and whether to repeat a call.

The API key must not get out: not in an exception, a log line, a repr, nor when the API echoes it. So what goes wrong
is told in our own words, texts of others are scrubbed, and no exception of the HTTP library is chained, since those
carry the request with its headers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from se_server import errors
from se_server.sdk.requests import Prepared

FIRST_RETRY_DELAY_S = 0.5
MAX_RETRY_DELAY_S = 30.0
MAX_MESSAGE_CHARS = 300
MAX_TEXT_BODY_CHARS = 65_536
MAX_BODY_DEPTH = 64  # far below Python's recursion limit; orjson reads 1024

# The API uses the first; proxies in front of it the second.
REQUEST_ID_HEADERS = ("request-id", "x-request-id")

REDACTED = "[redacted]"

_ERRORS: dict[int, type[errors.ApiError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.UnprocessableEntity,
    429: errors.RateLimited,
}


def error_of(prepared: Prepared, status: int, headers: Mapping[str, str], content: bytes) -> errors.ApiError:
    """Return the exception for an unsuccessful reply."""
    body = _body(content, prepared.secrets)
    if 300 <= status < 400:
        target = urlsplit(headers.get("location", "")).netloc.rpartition("@")[2] or "another path"
        detail = f"a redirect to {target}, not followed because the API key would go with it"
    else:
        detail = _detail(body)
    kind = _ERRORS.get(status, errors.ApiServerError if status >= 500 else errors.ApiError)
    return kind(
        _message(f"{prepared.name} was answered with {status}" + (f": {detail}" if detail else ""), prepared.secrets),
        status_code=status,
        body=body,
        request_id=_request_id(headers, prepared.secrets),
    )


def result_of(prepared: Prepared, status: int, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; `{}` where its content does not matter.

    Raises:
        ApiError: the answer is not a success, not a JSON object, or lacks the requested field.
    """
    if not 200 <= status < 300:
        raise error_of(prepared, status, headers, content)
    if not prepared.answer_has:
        return {}
    answer = _decoded(content)
    if isinstance(answer, dict) and prepared.answer_has in answer:
        return answer
    raise errors.ApiError(
        f"{prepared.name} was answered with {status}, but with no JSON object that has {prepared.answer_has!r}",
        status_code=status,
        body=_body(content, prepared.secrets),
        request_id=_request_id(headers, prepared.secrets),
    )


def retry_delay_s(prepared: Prepared, status: int, headers: Mapping[str, str], retries: int) -> float | None:
    """Return the seconds to wait before the call is repeated; None if it must not be repeated.

    Only what cannot happen twice is repeated: reads that the server failed, and anything that was refused by the rate
    limit before it was done.

    Args:
        retries: how often the call was repeated so far.
    """
    repeatable = status == 429 or (prepared.method == "GET" and (status == 408 or status >= 500))
    if not repeatable or retries >= prepared.max_retries:
        return None
    try:
        wanted_s = float(headers.get("retry-after", ""))
    except ValueError:
        wanted_s = math.nan
    if not math.isfinite(wanted_s):
        # Without a number of seconds: double the time for each try, and spread the clients.
        wanted_s = FIRST_RETRY_DELAY_S * 2**retries * random.uniform(0.9, 1.1)
    return min(max(wanted_s, 0.0), MAX_RETRY_DELAY_S)


def timeout_of(prepared: Prepared) -> errors.ApiTimeout:
    """Return the exception for an answer that did not come in time."""
    limit = f" within {prepared.timeout_s:g} s" if prepared.timeout_s is not None else " in time"
    return errors.ApiTimeout(f"{prepared.name} had no answer{limit}")


def connection_error_of(prepared: Prepared, host: str, reason: BaseException) -> errors.ApiConnectionError:
    """Return the exception for an API that could not be reached, or that broke off."""
    return errors.ApiConnectionError(
        _message(f"{prepared.name} failed at {host}: {reason or type(reason).__name__}", prepared.secrets)
    )


def _scrub(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def _scrubbed(value: Any, secrets: tuple[str, ...], depth: int = 0) -> Any:
    if isinstance(value, str):
        return _scrub(value, secrets)
    if depth == MAX_BODY_DEPTH:
        return "[nested too deep]"
    if isinstance(value, list):
        return [_scrubbed(item, secrets, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_scrub(name, secrets): _scrubbed(item, secrets, depth + 1) for name, item in value.items()}
    return value


def _decoded(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace")


def _body(content: bytes, secrets: tuple[str, ...]) -> Any:
    body = _scrubbed(_decoded(content), secrets)
    # A text is a page of a proxy, not of the API: its beginning is enough. Cut last, or half a key could stand there.
    return body[:MAX_TEXT_BODY_CHARS] if isinstance(body, str) else body


def _detail(body: Any) -> str:
    """Find the sentence in an error body: `{"detail": text | {"message": ...} | [{"loc": ..., "msg": ...}]}`."""
    detail = body.get("detail", body.get("message", body)) if isinstance(body, dict) else body
    if isinstance(detail, list) and detail:
        detail = detail[0]
    if isinstance(detail, dict):
        where = detail.get("loc")
        text = str(detail.get("message") or detail.get("msg") or "")
        return f"{'.'.join(map(str, where))}: {text}" if isinstance(where, list) and text else text
    if isinstance(detail, str) and detail.lstrip().startswith("<"):
        return "a web page, not JSON; it is that of another server"
    return detail if isinstance(detail, str) else ""


def _message(text: str, secrets: tuple[str, ...]) -> str:
    line = " ".join(_scrub(text, secrets).split())
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 3] + "..."


def _request_id(headers: Mapping[str, str], secrets: tuple[str, ...]) -> str | None:
    for name in REQUEST_ID_HEADERS:
        if headers.get(name):
            return _message(headers[name], secrets)
    return None
