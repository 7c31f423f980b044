"""Access to the observer: who may ask what, and the headers that protect a browser.

Loopback is not a login: any page that an operator's browser shows can send requests there. So a request must name the
server it means (`Host`) and must not come from another site (`Origin`, `Sec-Fetch-Site`), and everything beyond totals
needs a token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PRIVATE = ("/api/conversations", "/api/turns", "/api/actions", "/api/recordings")
"""Paths of single conversations, of ids and of actions. They need a token on every address."""

PROTECTION = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Checks each request before the application sees it. Sets `scope["state"]["has_token"]`.

    Args:
        app: the application.
        tokens: the tokens of operators.
        is_local: whether only this machine can reach the address, so that totals need no token.
        is_unix: whether it is a Unix socket, which no browser reaches without a proxy.
        host: the host that the address was given with.
    """

    def __init__(
        self, app: App, *, tokens: Sequence[str], is_local: bool, is_unix: bool = False, host: str = ""
    ) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]
        self._is_local = is_local
        self._checks_host = is_local and not is_unix
        self._host = host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(name.lower() == b"host" for name, _ in scope["headers"]) > 1:
            await _refuse(send, 400, "a request has one Host header", {})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        has_token = self._has_token(headers.get("authorization", ""))
        refusal = self._refusal(scope, headers, has_token)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        scope.setdefault("state", {})["has_token"] = has_token

        async def protect(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_raw(PROTECTION)]
            await send(message)

        await self._app(scope, receive, protect)

    def _refusal(
        self, scope: Scope, headers: Mapping[str, str], has_token: bool
    ) -> tuple[int, str, Mapping[str, str]] | None:
        """Return status, text and headers of the response to a request that is refused."""
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "this address answers GET, HEAD and POST", {"allow": "GET, HEAD, POST"}
        if self._checks_host and not self._is_own(headers.get("host", "")):
            return 421, "this address answers to its own host name, localhost and loopback addresses only", {}
        if _is_foreign(scope, headers):
            return 403, "requests of other sites are refused", {}
        path = scope["path"]
        is_private = path.startswith(PRIVATE) or scope["method"] == "POST"
        if has_token or (self._is_local and not is_private):
            return None
        if not self._tokens:
            return 403, "single conversations and actions need a token: start se-server with --admin-token-file", {}
        # A browser that opens the page asks for a password then; the page's own requests must not make it ask.
        is_page = not path.startswith("/api/") and not is_private
        return 401, "a token is needed", {"www-authenticate": 'Basic realm="se-server"' if is_page else "Bearer"}

    def _is_own(self, given: str) -> bool:
        name = given.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name == "localhost" or name.endswith(".localhost") or (name and name == self._host):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _has_token(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        given = value.strip().encode("latin-1")
        if scheme.lower() == "basic":  # the token is the password, the name is of no account
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        # Compare with all of them: the time tells nothing about any.
        return sum(hmac.compare_digest(given, token) for token in self._tokens) > 0


def _is_foreign(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a browser sends the request for another site than this address."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower():
        return True
    site = headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin"):
        return False
    # A link on another site may lead to the page.
    return not (scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate")


async def _refuse(send: Send, status: int, text: str, headers: Mapping[str, str]) -> None:
    body = text.encode() + b"\n"
    given = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **PROTECTION, **headers}
    await send({"type": "http.response.start", "status": status, "headers": _raw(given)})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
