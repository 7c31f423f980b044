"""Options that all commands share which call a server: headers, key, TLS and the time to connect."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from se_server.client_tls import ClientTls
from se_server.demo import DEMO_API_KEY
from se_server.errors import ConfigError
from se_server.options import key_lines
from se_server.simulator.headers import check_header

CONNECT_TIMEOUT_S = 5.0
SERVER_OPTIONS = ("headers", "api_key", "api_key_file", "cafile", "insecure", "cert", "key", "connect_timeout_s")
"""The names of the parameters that `calls_a_server` declares, in the order of the help."""

_file = click.Path(path_type=Path)


@dataclass(frozen=True)
class ServerAccess:
    """The way to a server, as the command line gives it.

    Attributes:
        key: the key that signs the tokens.
        key_source: its origin, in words.
        headers: further headers of each upgrade request.
        tls: the certificates for `wss://`.
        connect_timeout_s: the longest wait for a connection, and again for the upgrade, in seconds.
    """

    key: str
    key_source: str
    headers: Mapping[str, str]
    tls: ClientTls
    connect_timeout_s: float


def calls_a_server(connect_timeout_s: float = CONNECT_TIMEOUT_S) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that declares the options and passes them on as `access`, a `ServerAccess`."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **values: Any) -> Any:
            given = {name: values.pop(name) for name in SERVER_OPTIONS}
            return function(*args, access=_access_of(**given), **values)

        for option in reversed(_options(connect_timeout_s)):
            option(run)
        return run

    return declare


def _options(connect_timeout_s: float) -> list[Callable[..., Any]]:
    return [
        click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, callback=read_headers,
                     help="A further header of each upgrade request; may be repeated."),
        click.option("--api-key", metavar="KEY",
                     help="Key that signs the tokens; else ELEVENLABS_API_KEY, else the demo key."),
        click.option("--api-key-file", metavar="FILE", type=_file, help="File that starts with the key."),
        click.option("--cafile", metavar="FILE", help="Certificates to trust instead of the system's."),
        click.option("--insecure", is_flag=True, help="Trust any certificate, such as a self-signed one."),
        click.option("--cert", metavar="FILE", help="Certificate to show to a server that requires one."),
        click.option("--key", metavar="FILE", help="Private key of --cert, unless it is in the same file."),
        click.option("--connect-timeout-s", metavar="SECONDS", type=click.FloatRange(0, min_open=True),
                     default=connect_timeout_s, show_default=True,
                     help="The longest wait for a connection, and again for the upgrade."),
    ]  # fmt: skip


def _access_of(
    headers: dict[str, str],
    api_key: str | None,
    api_key_file: Path | None,
    cafile: str | None,
    insecure: bool,
    cert: str | None,
    key: str | None,
    connect_timeout_s: float,
) -> ServerAccess:
    tls = ClientTls(cafile, insecure, cert, key)
    try:
        signing, source = signing_key(api_key, api_key_file)
        tls.context()  # a fault of a file shows before anything is sent
    except ConfigError as error:
        raise click.UsageError(f"{error}.") from None
    return ServerAccess(signing, source, headers, tls, connect_timeout_s)


def read_headers(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read `Name: value` options; a click callback."""
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not colon or not name:
            raise click.BadParameter("this is not a header: write 'Name: value'")
        try:
            check_header(name, value)
        except ValueError as wrong:
            raise click.BadParameter(str(wrong)) from None
        headers[name] = value
    return headers


def signing_key(given: str | None, file: Path | None = None) -> tuple[str, str]:
    """Return the key that signs the token, and its origin in words.

    Args:
        given: the key of the command line.
        file: a file with one key a line, as for se-server; its first key is used. Without both, the key of the
            environment or the demo agent's is used.

    Raises:
        ConfigError: the file has no key.
    """
    if given is not None:
        return given, "the key of --api-key"
    if file is not None:
        return key_lines(file, "--api-key-file")[0], f"the key of {file}"
    # se-server accepts several keys there, while one replaces another.
    keys = (key.strip() for key in os.environ.get("ELEVENLABS_API_KEY", "").split(","))
    key = next(filter(None, keys), None)
    return (key, "the key of ELEVENLABS_API_KEY") if key else (DEMO_API_KEY, "the demo key")
