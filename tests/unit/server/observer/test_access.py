"""Access to the observer: totals on loopback, everything else with a token, and nothing for other sites."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from se_server.server.observer import app, web
from se_server.server.observer.access import PROTECTION, Guard

TOKEN = "0123456789abcdef-operator"
LOCAL = {"host": "127.0.0.1:9100"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
BASIC = {"authorization": "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()}


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"has token" if scope["state"]["has_token"] else b"open"})


def answer(
    path: str = "/metrics",
    headers: dict[str, str] | None = None,
    method: str = "GET",
    *,
    tokens: tuple[str, ...] = (TOKEN,),
    is_local: bool = True,
    is_unix: bool = False,
    host: str = "127.0.0.1",
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the response to a request."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing reads the body")

    raw = [(name.encode(), value.encode("latin-1")) for name, value in (LOCAL if headers is None else headers).items()]
    guard = Guard(inner, tokens=tokens, is_local=is_local, is_unix=is_unix, host=host)
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": raw}, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.mark.parametrize("path", ["/metrics", "/", "/livez", "/api/overview", "/api/events"])
def test_totals_need_no_token_on_loopback(path: str) -> None:
    assert answer(path)[0] == 200


@pytest.mark.parametrize("path", ["/api/conversations", "/api/conversations/c1", "/api/turns", "/api/actions/drain"])
@pytest.mark.parametrize("is_unix", [False, True])
def test_single_conversations_need_a_token_everywhere(path: str, is_unix: bool) -> None:
    assert answer(path, is_unix=is_unix)[0] == 401
    assert answer(path, {**LOCAL, **BEARER}, is_unix=is_unix)[0] == 200
    assert answer(path, {**LOCAL, **BASIC}, is_unix=is_unix)[0] == 200


def test_without_tokens_nothing_private_is_answered() -> None:
    status, _, body = answer("/api/turns", {**LOCAL, "authorization": "Bearer "}, tokens=())
    assert status == 403
    assert b"--admin-token-file" in body


@pytest.mark.parametrize("path", ["/metrics", "/", "/livez", "/api/overview"])
def test_other_addresses_need_a_token_for_all(path: str) -> None:
    far = {"host": "ops.example.com"}
    assert answer(path, far, is_local=False)[0] == 401
    assert answer(path, {**far, **BEARER}, is_local=False)[0] == 200


def test_a_browser_is_asked_for_a_password_by_the_page_alone() -> None:
    far = {"host": "ops.example.com"}
    assert answer("/", far, is_local=False)[1]["www-authenticate"].startswith("Basic")
    assert answer("/api/turns")[1]["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    ["", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Basic !!!", "Basic " + base64.b64encode(b"x:y").decode()],
)
def test_a_wrong_token_is_none(authorization: str) -> None:
    assert answer("/api/turns", {**LOCAL, "authorization": authorization})[0] == 401


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:9100", True),
        ("127.9.9.9", True),
        ("localhost:9100", True),
        ("[::1]:9100", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1:9100", False),
        ("", False),
    ],
)
def test_loopback_answers_to_its_own_names_only(host: str, is_own: bool) -> None:
    assert (answer("/", {"host": host})[0] == 200) is is_own
    assert answer("/", {"host": host}, is_unix=True)[0] == 200


def test_the_given_host_name_is_its_own() -> None:
    assert answer("/", {"host": "Metrics.Test:9100"}, host="metrics.test")[0] == 200


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({"origin": "http://127.0.0.1:9100"}, False),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
    ],
)
def test_requests_of_other_sites_are_refused(headers: dict[str, str], is_refused: bool) -> None:
    assert (answer("/api/overview", {**LOCAL, **headers})[0] == 403) is is_refused
    assert (answer("/api/actions/drain", {**LOCAL, **BEARER, **headers}, "POST")[0] == 403) is is_refused


def test_a_link_on_another_site_leads_to_the_page() -> None:
    headers = {**LOCAL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert answer("/", headers)[0] == 200
    assert answer("/api/overview", headers)[0] == 403


def test_every_response_protects_the_browser() -> None:
    for headers in (LOCAL, {"host": "evil.example"}):
        assert {name: value for name, value in answer("/", headers)[1].items() if name in PROTECTION} == PROTECTION


def test_no_response_shows_the_token() -> None:
    for headers in (LOCAL, {**LOCAL, **BEARER}, {**LOCAL, "authorization": f"Bearer {TOKEN}x"}):
        assert TOKEN not in str(answer("/api/turns", headers))


def test_other_methods_are_refused() -> None:
    assert answer("/", method="DELETE")[0] == 405


async def test_a_body_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_S", 0.05)
    observer: Any = app.Observer(cast(Any, None), cast(Any, None), None)
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    pieces = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> MutableMapping[str, Any]:
        return pieces.pop() if pieces else await asyncio.Event().wait()  # type: ignore[return-value]

    raw = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
    raw += [(b"content-type", b"application/json"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": "/api/actions/reload", "headers": raw, "query_string": b""}
    await asyncio.wait_for(observer.app(tokens=(TOKEN,), is_local=True)(scope, receive, send), 10)
    assert sent[0]["status"] == 408
