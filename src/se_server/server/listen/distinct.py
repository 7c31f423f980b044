"""Addresses and paths that two options give to one server: each needs its own."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from itertools import combinations
from typing import Any

from se_server.errors import ConfigError
from se_server.server.listen.admin import split_address

LOOPBACK = "127.0.0.1"


def check_distinct(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Refuse two options that ask for the same port of the same address, or for the same path of a Unix socket.

    Args:
        values: all options, by name.
        sources: where each value comes from.

    Raises:
        ConfigError: two options ask for the same.
    """
    for (one, (host, port)), (other, (other_host, other_port)) in combinations(_ports(values, sources).items(), 2):
        if port == other_port != 0 and _overlap(host, other_host):
            raise ConfigError(f"{one} and {other} ask for the same port {port}: give each a port of its own")
    for (one, path), (other, other_path) in combinations(_paths(values).items(), 2):
        if os.path.realpath(path) == os.path.realpath(other_path):
            raise ConfigError(f"{one} and {other} name the same socket {path}: give each a path of its own")


def _ports(values: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, tuple[str | None, int]]:
    """Return host and port of each option that has one."""
    found: dict[str, tuple[str | None, int]] = {}
    listens = values["uds"] is None or any(sources[name] != "default" for name in ("host", "port"))
    if listens and not values["fd"]:
        by_default = " (the default)" if sources["port"] == "default" else ""
        found[f"--port {values['port']}{by_default}"] = values["host"], values["port"]
    for name in ("admin", "agent_check"):
        given = values[name]
        if given is not None and "/" not in given:
            found[f"--{name.replace('_', '-')} {given}"] = split_address(given)
    if values["playground"] and sources["playground_port"] != "default":
        found[f"--playground-port {values['playground_port']}"] = LOOPBACK, values["playground_port"]
    return found


def _paths(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of each option that names a Unix socket."""
    found = {f"--{name.replace('_', '-')}": values[name] for name in ("uds", "admin", "control_socket")}
    return {name: path for name, path in found.items() if path is not None and "/" in path}


def _overlap(one: str | None, other: str | None) -> bool:
    if one is None or other is None:  # all interfaces
        return True
    return any(
        first == second or (first.version == second.version and (first.is_unspecified or second.is_unspecified))
        for first in _addresses(one)
        for second in _addresses(other)
    )


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    with suppress(OSError, UnicodeError):  # an unknown host is an error when it is bound
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return []
