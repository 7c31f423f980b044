"""The conditions of a conversation: its client's address, a secret header, and the token."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from typing import ClassVar

from se_server.errors import AuthenticationError, ConfigError
from se_server.options import flag, interval, option, read_lines, text
from se_server.server.door.clients import Client, client_behind, client_named
from se_server.server.door.networks import Networks, networks, proxies
from se_server.server.door.responses import ADDRESS_REFUSED, HEADER_REFUSED, TOKEN_REFUSED, Response
from se_server.server.door.routes import ACCESS
from se_server.server.door.upgrades import Upgrade
from se_server.types import Headers

_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class RequiredHeader:
    """A header that every upgrade must carry.

    Attributes:
        name: the name of the header, in any case.
        value: the secret value.
    """

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"RequiredHeader({self.name})"

    def is_in(self, headers: Headers) -> bool:
        """Return whether the header came once and with the value; takes constant time."""
        values = headers.getall(self.name) or [""]
        right = hmac.compare_digest(values[0].encode("latin-1"), self.value)
        return right and len(values) == 1


def required_header(raw: object) -> RequiredHeader:
    """Read NAME=VALUE."""
    name, _, value = raw.partition("=") if isinstance(raw, str) else ("", "", "")
    name, value = name.strip(), value.strip()
    printable = value.isprintable() and value.isascii()
    if not _HEADER_NAME.fullmatch(name) or not value or not printable:
        raise ValueError("NAME=VALUE, the name of a header and its value in printable ASCII")
    return RequiredHeader(name, value.encode())


def header_file(raw: object) -> RequiredHeader:
    """Read a file that holds NAME=VALUE on its only line; empty lines and those that begin with # do not count."""
    expected = "a file with NAME=VALUE on its only line"
    try:
        found = read_lines(text(raw))
    except ValueError as wrong:
        raise ValueError(f"{expected} ({wrong})") from None
    if len(found) != 1:
        raise ValueError(f"{expected} (it has {len(found)} lines)")
    return required_header(found[0])


def rate(raw: object) -> float:
    """Read a rate a second, above 0."""
    expected = "a number a second above 0, such as 5 or 0.5"
    try:
        return interval(raw)
    except ValueError:
        raise ValueError(expected) from None


@dataclass(frozen=True, slots=True)
class Access:
    """Conditions that a connection and an upgrade request meet.

    Attributes:
        allow_ips: the clients that may hold conversations; empty for all.
        require_header: the header that their requests carry; None for none.
        require_header_file: the same, read from a file; with both, requests carry both.
        max_failed_handshakes_per_s: failed handshakes of one client address; None for no limit.
        trusted_proxies: the proxies that are believed about their clients' addresses.
        proxy_protocol: whether every connection comes from such a proxy and begins with a PROXY header.

    Raises:
        ConfigError: the PROXY protocol without trusted proxies.
    """

    HEADING: ClassVar[str] = ACCESS

    allow_ips: Networks = option(
        Networks(),
        networks,
        "Accept conversations from these addresses only; @FILE names a file of them, read again at a reload. "
        "Health checks are answered everywhere.",
        "CIDR,...",
        default_text="all",
        repeatable=True,
    )
    require_header: RequiredHeader | None = option(
        None,
        required_header,
        "Accept only conversations whose request has this header. Other users of this machine can read it in the "
        "process list: prefer --require-header-file or the environment.",
        "NAME=VALUE",
        secret=True,
    )
    require_header_file: RequiredHeader | None = option(
        None, header_file, "A file with the NAME=VALUE of --require-header.", "FILE", secret=True
    )
    max_failed_handshakes_per_s: float | None = option(
        None,
        rate,
        "Failed handshakes of one client address at one worker; further failures are answered 429. "
        "A request with a good token is never limited.",
        "N",
        default_text="no limit",
    )
    trusted_proxies: Networks = option(
        Networks(),
        proxies,
        "Believe these proxies about their clients' addresses (Forwarded, X-Forwarded-For).",
        "CIDR,...",
        default_text="none",
        repeatable=True,
    )
    proxy_protocol: bool = option(
        False,
        flag,
        "Expect the PROXY protocol, version 1 or 2, and accept connections from the trusted proxies only.",
    )

    def __post_init__(self) -> None:
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError(
                "proxy_protocol is believed from trusted proxies only: name them, too (trusted_proxies, such as"
                " 10.0.0.0/8)"
            )

    @property
    def is_restricted(self) -> bool:
        """Whether strangers need more than the address of the server, besides the token."""
        return bool(self.allow_ips or self._required())

    def _required(self) -> list[RequiredHeader]:
        return [header for header in (self.require_header, self.require_header_file) if header is not None]

    @property
    def secret_headers(self) -> set[str]:
        """The names of the headers whose values are secret."""
        return {header.name for header in self._required()}

    def trusts(self, peer: str) -> bool:
        """Return whether a peer (`host:port`, or empty for a Unix socket) is a trusted proxy."""
        return self._trusts(peer, client_named(peer))

    def _trusts(self, peer: str, near: Client) -> bool:
        return self.trusted_proxies.unix if not peer else near.address in self.trusted_proxies

    def check(self, upgrade: Upgrade) -> tuple[Upgrade, tuple[Response, str] | None]:
        """Return the upgrade with its client's address, and the response and the reason to log if it is refused.

        The token of the upgrade's route comes last, and the client's address is looked for only where it decides or
        when the upgrade is admitted: a refusal costs no more work than it needs.
        """
        request = upgrade.request
        client = None
        if self.allow_ips:
            client = self.client_of(request.remote, request.headers)
            if client.address not in self.allow_ips:
                return upgrade, (ADDRESS_REFUSED, "allow-ips" if client.address else "its address is not known")
        for header in self._required():
            if not header.is_in(request.headers):
                return upgrade, (HEADER_REFUSED, f"require-header {header.name}")
        if upgrade.route.verifier is not None:
            try:
                upgrade.route.verifier.verify(upgrade.authorization)
            except AuthenticationError as error:
                return upgrade, (TOKEN_REFUSED, f"{type(error).__name__}: {error}")
        if client is None and self.trusted_proxies:
            client = self.client_of(request.remote, request.headers)
        if client is not None and client.text != request.remote:
            request = replace(request, remote=client.text)
        for header in self._required():  # a secret that handlers need not hold, and may log
            request = replace(request, headers=request.headers.without(header.name))
        return upgrade if request is upgrade.request else upgrade._replace(request=request), None

    def client_of(self, peer: str, headers: Headers) -> Client:
        """Find the client of a request: its peer, or the client that trusted proxies name."""
        near = client_named(peer)
        if not self.trusted_proxies or not self._trusts(peer, near):
            return near
        return client_behind(near, headers, self.trusted_proxies)

    def described(self, peer: str, headers: Headers) -> str:
        """Describe the client of a request for the log."""
        client = self.client_of(peer, headers)
        if client.text:
            return client.text
        return f"an unknown client behind {peer}" if peer and client_named(peer).text else "a peer"
