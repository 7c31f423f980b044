"""Check that a server can be reached, and explain the usual faults of a set-up."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from se_server.address import Address, shown
from se_server.auth import AUTHORIZATION_HEADER, LEEWAY_S, sign_token
from se_server.client_tls import SYSTEM_TLS, ClientTls
from se_server.doctor.probe import HttpAnswer, NoHttp, ask_upgrade, resolve
from se_server.doctor.results import Finding, State

OTHER_PATHS = ("/ws", "/")  # the usual paths of servers
ANOTHER_KEY = "sk_a_key_that_is_nobodys"
_CLIENT_CERTIFICATE = "the server may require a certificate of its clients, which ElevenLabs lacks (--cert FILE)"


@dataclass
class FirstSteps:
    """The checks on the way to a first conversation, step by step.

    Args:
        address: the server.
        api_key: the key that signs the tokens.
        key_source: the origin of the key, in words.
        headers: further headers of each request.
        timeout_s: the longest wait for a connection, and again for an answer, in seconds.
        tls: the certificates for `wss://`.
    """

    address: Address
    api_key: str
    key_source: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 5.0
    tls: ClientTls = SYSTEM_TLS

    async def walk(self) -> AsyncIterator[Finding]:
        """Yield one finding for each step; the last one is a failure if no conversation is possible."""
        address = self.address
        try:
            found = await resolve(address)
        except (socket.gaierror, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            yield _fail(
                "name", f"there is no host {address.host!r} ({reason})", "check the spelling, and the DNS record"
            )
            return
        numbers = "" if found == [address.host] else f" is {', '.join(found[:3])}"
        yield _pass("name", f"{address.host}{numbers}")
        try:
            answer = await self._ask(self._token())
        except (OSError, asyncio.TimeoutError, NoHttp) as error:
            yield await self._explain_connection(error)
            return
        yield self._tls()
        clock = self._clock(answer)
        if answer.status != 101 or not answer.is_valid_upgrade:
            yield _pass("connection", f"port {address.port} answers HTTP {answer.status}")
            if clock.state is not State.PASS:
                yield clock
            yield await self._explain_status(answer)
            return
        yield _pass("upgrade", f"{shown(address.target)} accepts a token signed with {self.key_source}")
        yield clock
        yield await self._authentication()

    # --- asking -----------------------------------------------------------------------------------------------------

    def check_key(self) -> None:
        """Check that the key can sign.

        Raises:
            ConfigError: the key is blank, or is not text.
        """
        sign_token(self.api_key)

    def _token(self, key: str | None = None, now: float | None = None) -> str:
        return sign_token(key or self.api_key, now=now)

    async def _ask(
        self, token: str | None, *, address: Address | None = None, is_verified: bool = True, timeout_s: float = 0.0
    ) -> HttpAnswer:
        headers = {**self.headers, **({} if token is None else {AUTHORIZATION_HEADER: token})}
        where = address or self.address
        return await ask_upgrade(
            where,
            headers,
            timeout_s=timeout_s or self.timeout_s,
            tls=self.tls if is_verified else replace(self.tls, insecure=True),
        )

    async def _status(self, token: str | None, address: Address | None = None) -> HttpAnswer | None:
        try:
            return await self._ask(token, address=address)
        except (OSError, asyncio.TimeoutError, NoHttp):
            return None

    # --- no answer at all -------------------------------------------------------------------------------------------

    async def _explain_connection(self, error: Exception) -> Finding:
        where = f"{self.address.host}:{self.address.port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._explain_certificate(error)
        if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error.reason):
            return _fail(
                "TLS",
                "the server requires a certificate of its clients, and ElevenLabs shows none",
                "serve without --ca-certs; to examine this server all the same, show a certificate with --cert FILE",
            )
        # Order matters: TimeoutError and SSLError are subclasses of OSError.
        if isinstance(error, ssl.SSLError) or (self.address.is_tls and isinstance(error, ConnectionResetError)):
            if await self._speaks(is_tls=False):
                url = shown(f"ws://{where}{self.address.target}")
                return _fail(
                    "TLS",
                    "the server does not speak TLS, but plain HTTP",
                    f"use {url}, or put TLS before the server: --certfile",
                )
            reason = getattr(error, "reason", None) or error
            return _fail("TLS", f"the TLS handshake failed ({reason})", f"check the port; {_CLIENT_CERTIFICATE}")
        if isinstance(error, ConnectionRefusedError):
            return _fail(
                "connection", f"nothing listens at {where}", "start the server first, or check host, port and --host"
            )
        if isinstance(error, NoHttp | ConnectionResetError) and await self._wants_tls():
            return self._tls_wanted()
        if isinstance(error, NoHttp) and self.address.is_tls and not error.data:
            return _fail("TLS", "the server hangs up after the TLS handshake", f"check the port; {_CLIENT_CERTIFICATE}")
        if isinstance(error, NoHttp):
            said = f"{error.data[:20]!r}" if error.data else "nothing, and hangs up"
            return _fail(
                "connection", f"what listens at {where} answers {said}", "that is not a web server: check the port"
            )
        if isinstance(error, asyncio.TimeoutError | TimeoutError):
            return _fail(
                "connection",
                f"no answer from {where} within {self.timeout_s:g} s",
                "a firewall may drop packets, a proxy may wait for a server that hangs, or the port is wrong",
            )
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return _fail("connection", f"cannot connect to {where}: {reason}", "check host, port and the network")

    def _explain_certificate(self, error: ssl.SSLCertVerificationError) -> Finding:
        why = error.verify_message or str(error)
        if "expired" in why:
            out = "renew it; the server has to be reloaded then"
        elif "mismatch" in why or "not valid for" in why:
            out = f"get one issued for {self.address.host}, or use the name it was issued for"
        elif "self" in why or "local issuer" in why:
            out = (
                "ElevenLabs needs the whole chain (fullchain.pem) of a public authority; to test with your own, name"
                " its authority with --cafile FILE, or trust any with --insecure"
            )
        else:
            out = "ElevenLabs will refuse it, too: use a certificate of a public authority"
        return _fail("certificate", f"the server's certificate is not trusted: {why}", out)

    async def _wants_tls(self) -> bool:
        return not self.address.is_tls and await self._speaks(is_tls=True)

    def _tls_wanted(self) -> Finding:
        url = shown(f"wss://{self.address.host}:{self.address.port}{self.address.target}")
        return _fail("TLS", "the server speaks TLS, and ws:// does not use it", f"use {url}")

    async def _speaks(self, *, is_tls: bool) -> bool:
        try:
            await self._ask(None, address=replace(self.address, is_tls=is_tls), is_verified=False)
        except NoHttp as error:
            return is_tls or error.data.startswith(b"HTTP")
        except (OSError, asyncio.TimeoutError):
            return False
        return True

    # --- an answer that is not an upgrade ---------------------------------------------------------------------------

    async def _explain_status(self, answer: HttpAnswer) -> Finding:
        status, target = answer.status, shown(self.address.target)
        server = answer.headers.get("server", "")
        who = f" (says {server[:40]!r})" if server else ""
        proxy_out = (
            "let it pass `Upgrade` and `Connection`: docs/deploy/load-balancers.md configures HAProxy, nginx and Envoy"
        )
        if status == 101:
            return _fail(
                "upgrade", "the 101 has a wrong Sec-WebSocket-Accept", "something on the way caches or rewrites it"
            )
        if status == 401:
            return await self._explain_401(answer)
        if status == 404:
            return _fail("path", f"there are no conversations at {target} (404){who}", await self._other_path())
        if status == 426:
            return _fail("upgrade", f"the server saw no upgrade (426): a proxy before it removes it{who}", proxy_out)
        if status == 400 and await self._wants_tls():
            return self._tls_wanted()
        if status == 400:
            return _fail(
                "upgrade", f"the request was refused as malformed (400): a proxy may remove the upgrade{who}", proxy_out
            )
        if 200 <= status < 300:
            return _fail(
                "upgrade",
                f"{target} answers with a page ({status}): a proxy removes the upgrade, or there is no agent{who}",
                proxy_out,
            )
        if 300 <= status < 400:
            goes_to = shown(answer.headers.get("location", "nowhere")[:200])
            return _fail(
                "path",
                f"it redirects (HTTP {status}) to {goes_to}",
                "use that address; redirects are not followed",
            )
        if status == 403:
            return _fail(
                "access",
                f"this machine or this request is not allowed (403){who}",
                "check --allow-ips of the server and the web firewall; pass a required header with -H",
            )
        if status == 407 or status == 511:
            return _fail(
                "connection", f"a proxy of this network requires a login (HTTP {status})", "run from another network"
            )
        if status == 429:
            return _fail("capacity", f"too many requests (429){who}", "wait, or raise the limit for this address")
        if status == 503:
            wait = answer.headers.get("retry-after", "")
            after = f"; it says to come back in {wait} s" if wait.isdecimal() else ""
            return _fail(
                "capacity",
                f"no new conversations now (503): full, starting or shutting down{after}{who}",
                "try again, or give it more workers",
            )
        if status in (500, 502, 504):
            return _fail(
                "server",
                f"HTTP {status}{who}: a proxy cannot reach the server, or the server fails",
                "look into its log",
            )
        return _fail(
            "upgrade", f"HTTP {status} instead of a conversation{who}", "is this a Speech Engine server's address?"
        )

    async def _other_path(self) -> str:
        for path in OTHER_PATHS:
            if path != self.address.target:
                answer = await self._status(self._token(), self.address.at(path))
                if answer is not None and answer.status in (101, 401):
                    return f"{path} is one: use it in the address, or start the server with another --path"
        return "use the server's --path in the address; a proxy may rewrite it, too"

    async def _explain_401(self, answer: HttpAnswer) -> Finding:
        name = AUTHORIZATION_HEADER
        ahead_s = _clock_ahead_s(answer)
        if ahead_s is not None and abs(ahead_s) > LEEWAY_S / 2:
            now = time.time() + ahead_s
            probe = await self._status(self._token(now=now))
            if probe is not None and probe.status == 101:
                return _fail(
                    "clock",
                    f"401, and the server accepts the same token dated by its own clock, which is {_apart(ahead_s)}",
                    "set the clocks by NTP: tokens tolerate a difference of 60 s",
                )
        for aside_s in (120 - LEEWAY_S, -300 - LEEWAY_S):  # without a Date header, or with that of a proxy
            probe = await self._status(self._token(now=time.time() + aside_s * 2))
            if probe is not None and probe.status == 101:
                return _fail(
                    "clock", "the token was refused (401), and one of another time is accepted", "set the clocks by NTP"
                )
        missing, foreign = await self._status(None), await self._status(self._token(ANOTHER_KEY))
        if missing is None or foreign is None or missing.status == foreign.status == 401:
            bodies = [None if it is None else it.body for it in (missing, foreign)]
            if bodies[0] != bodies[1] and answer.body in bodies:
                if answer.body == bodies[0]:
                    return _fail(
                        "header",
                        f"401, with the same words as for no token: a proxy removes {name}",
                        "let it pass all request headers, or at least this one",
                    )
                return self._wrong_key("401, with the same words as for a wrong key, not as for no token")
            return self._wrong_key(
                "401 for any token, and without one",
                f"; if it is the same key, a proxy removes the header {name}. The server's log has the reason",
            )
        return self._wrong_key("the token was refused (401)")

    def _wrong_key(self, why: str, more: str = "") -> Finding:
        return _fail(
            "key", f"{why}: it was signed with {self.key_source}", f"use the API key the server was started with{more}"
        )

    # --- remarks on a server that works -----------------------------------------------------------------------------

    def _tls(self) -> Finding:
        if self.address.is_tls:
            if self.tls.insecure:
                return Finding(
                    "TLS",
                    State.NOT_TESTED,
                    "the certificate was not checked (--insecure)",
                    "ElevenLabs checks it: run se-doctor without --insecure before you go live",
                )
            return _pass("TLS", "the certificate is trusted")
        if self.address.is_loopback:
            return _pass("TLS", "none; it is not needed on this machine")
        return Finding(
            "TLS", State.WARNING, "ws:// shows the token and every word to the network", "ElevenLabs requires wss://"
        )

    def _clock(self, answer: HttpAnswer) -> Finding:
        ahead_s = _clock_ahead_s(answer)
        if ahead_s is None:
            return (
                _pass("clock", "close enough to ours: the token is accepted")
                if answer.status == 101
                else Finding("clock", State.NOT_TESTED, "the answer has no Date header")
            )
        if abs(ahead_s) > LEEWAY_S / 2:
            return Finding(
                "clock",
                State.WARNING,
                f"the server's clock is {_apart(ahead_s)}",
                "set it by NTP: tokens tolerate a difference of 60 s",
            )
        return _pass("clock", f"within {max(1.0, abs(ahead_s)):.0f} s of ours")

    async def _authentication(self) -> Finding:
        answer = await self._status(None)
        if answer is not None and answer.status == 101:
            return Finding(
                "authentication",
                State.WARNING,
                "off: a caller without a token is accepted",
                "switch it on, or allow only known addresses or a secret header (--allow-ips, --require-header)",
            )
        status = "no answer" if answer is None else f"{answer.status}"
        return _pass("authentication", f"on: without a token {status}")


def _apart(ahead_s: float) -> str:
    return f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"


def _clock_ahead_s(answer: HttpAnswer) -> float | None:
    """Return the lead of the server's clock, in seconds, to within a second; None without a Date header."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time() + 0.5
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _pass(name: str, why: str) -> Finding:
    return Finding(name, State.PASS, why)


def _fail(name: str, why: str, way_out: str) -> Finding:
    return Finding(name, State.FAIL, why, way_out)
