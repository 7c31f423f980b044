"""The socket of metrics and of the page for operators: its options, and who may ask what there."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from se_server.errors import ConfigError
from se_server.options import flag, number, option, read_lines, text
from se_server.server.listen.listening import host, port
from se_server.server.listen.sockets import bind
from se_server.server.listen.uds import UnixListenSocket

BACKLOG = 128
MIN_TOKEN = 16  # characters: a token is guessed as fast as the server answers
_EXPECTED = "HOST:PORT, such as 127.0.0.1:9100, or the path of a Unix socket, such as /run/se-server/admin.sock"


def address(raw: object) -> str:
    """Read HOST:PORT, or the path of a Unix socket, which has a slash."""
    given = raw.strip() if isinstance(raw, str) else ""
    if "://" in given:
        raise ValueError(_EXPECTED)
    if "/" in given:
        return given
    try:
        split_address(given)
    except ValueError:
        raise ValueError(_EXPECTED) from None
    return given


def host_and_port(raw: object) -> str:
    """Read HOST:PORT."""
    given = raw.strip() if isinstance(raw, str) else ""
    try:
        split_address(given)
    except ValueError:
        raise ValueError("HOST:PORT, such as 10.0.0.11:3003") from None
    return given


def split_address(given: str) -> tuple[str | None, int]:
    """Return the host, None for all interfaces, and the port of HOST:PORT.

    Raises:
        ValueError: it is not HOST:PORT.
    """
    name, colon, number = given.rpartition(":")
    if not colon or not name or (":" in name and not name.startswith("[")):
        raise ValueError(_EXPECTED)
    return host(name), port(number)


@dataclass(frozen=True)
class Admin:
    """The address of metrics and of the page for operators.

    Attributes:
        admin: HOST:PORT, or the path of a Unix socket; None for none.
        admin_token_file: the file with the tokens of operators, one a line; None for none.
        pod_deletion_cost: whether the load is written to the pod's deletion cost.
        agent_check: HOST:PORT of answers to HAProxy's agent checks; None for none.
        capacity: the conversations that the server carries well, which the load is compared with; None if unknown.
    """

    HEADING: ClassVar[str] = "Observing"

    admin: str | None = option(
        None,
        address,
        "Serve metrics and a page for operators at this address, from a process of its own.",
        "HOST:PORT|PATH",
        default_text="none",
    )
    admin_token_file: str | None = option(
        None,
        text,
        "A file with tokens, one a line. Single conversations and every action need one of them; so does everything"
        " else if --admin is neither a loopback address nor a Unix socket.",
        "FILE",
    )
    pod_deletion_cost: bool = option(
        False,
        flag,
        "In Kubernetes: write the load to this pod's deletion cost, at most once a minute, so that pods with few"
        " conversations are removed first. Needs --admin, and a Role that may patch pods.",
    )
    agent_check: str | None = option(
        None,
        host_and_port,
        "Answer HAProxy's agent checks at this address: the weight by load, or drain.",
        "HOST:PORT",
        default_text="none",
    )
    capacity: int | None = option(
        None,
        number,
        "Conversations that this server carries, as `se-bench capacity` measures them: load and weights are shares of"
        " it. Nothing is refused beyond it. --max-sessions counts instead where it is given.",
        "N",
        default_text="unknown",
    )


@dataclass(frozen=True)
class AdminSocket:
    """The bound address of the observer.

    Attributes:
        given: the address as it was given.
        sockets: bound and listening, owned by the supervisor.
        unix: the file of a Unix socket; None for a port.
        tokens: the tokens of operators; without any, nothing that needs one is answered.
        is_local: whether only this machine can reach it, so that totals need no token.
        writes_deletion_cost: whether the observer writes the pod's deletion cost.
    """

    given: str
    sockets: tuple[socket.socket, ...]
    unix: UnixListenSocket | None
    tokens: tuple[str, ...]
    is_local: bool
    writes_deletion_cost: bool = False

    @property
    def url(self) -> str:
        """The address of the page; of a Unix socket, its path."""
        if self.unix is not None:
            return f"unix:{self.given}"
        name, number = self.sockets[0].getsockname()[:2]
        return f"http://{f'[{name}]' if ':' in name else name}:{number}/"

    @property
    def host(self) -> str:
        """The host as it was given; empty for a Unix socket and for all interfaces."""
        return "" if self.unix is not None else split_address(self.given)[0] or ""

    def close(self) -> None:
        """Close the sockets; in a child, its copies of them."""
        for sock in self.sockets:
            sock.close()

    def remove(self) -> None:
        """Remove the file of a Unix socket."""
        if self.unix is not None:
            self.unix.remove()


def open_admin(options: Admin, inherited: tuple[str, list[socket.socket]] | None = None) -> AdminSocket | None:
    """Bind the address of the observer, or take it over from the previous supervisor.

    Args:
        options: the address and the tokens.
        inherited: the address and the sockets of the previous supervisor, owned from now on.

    Returns:
        The sockets; None if no address was given.

    Raises:
        ConfigError: the address cannot be bound, or everybody could reach it without a token.
    """
    former, adopted = inherited or ("", [])
    if options.admin != former:
        for sock in adopted:
            sock.close()
        adopted = []
    if options.pod_deletion_cost:
        _check_pod(options, os.environ)
    if options.admin is None:
        if options.admin_token_file is not None:
            raise ConfigError("--admin-token-file is for --admin: give --admin HOST:PORT too")
        return None
    tokens = () if options.admin_token_file is None else read_tokens(options.admin_token_file)
    if "/" in options.admin:
        unix = (
            UnixListenSocket.adopt(options.admin, adopted[0])
            if adopted
            else UnixListenSocket(options.admin, backlog=BACKLOG, option="admin")
        )
        return AdminSocket(options.admin, (unix.socket,), unix, tokens, True, options.pod_deletion_cost)
    try:
        sockets = adopted or bind(*split_address(options.admin), backlog=BACKLOG)
    except ConfigError as error:
        raise type(error)(f"--admin: {error}") from None
    is_local = all(ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback for sock in sockets)
    opened = AdminSocket(options.admin, tuple(sockets), None, tokens, is_local, options.pod_deletion_cost)
    if not is_local and not tokens:
        opened.close()
        raise ConfigError(
            f"--admin {options.admin} can be reached from other machines: give --admin-token-file FILE, or a loopback"
            " address such as 127.0.0.1:9100"
        )
    return opened


def _check_pod(options: Admin, environ: Mapping[str, str]) -> None:
    if options.admin is None:
        raise ConfigError("--pod-deletion-cost is written by the process of --admin: give --admin HOST:PORT too")
    if "KUBERNETES_SERVICE_HOST" not in environ:
        raise ConfigError(
            "--pod-deletion-cost is for a pod of Kubernetes, and KUBERNETES_SERVICE_HOST is not set: remove it"
        )


def open_agent_check(
    options: Admin, inherited: tuple[str, list[socket.socket]] | None = None
) -> tuple[str, list[socket.socket]] | None:
    """Bind the address of agent checks, or take it over from the previous supervisor.

    Args:
        options: the address.
        inherited: the address and the sockets of the previous supervisor, owned from now on.

    Returns:
        The address as it was given, and its sockets; None if no address was given.

    Raises:
        ConfigError: the address cannot be bound.
    """
    former, adopted = inherited or ("", [])
    if options.agent_check is not None and options.agent_check == former:
        return former, adopted
    for sock in adopted:
        sock.close()
    if options.agent_check is None:
        return None
    try:
        return options.agent_check, bind(*split_address(options.agent_check), backlog=BACKLOG)
    except ConfigError as error:
        raise type(error)(f"--agent-check: {error}") from None


def read_tokens(name: str) -> tuple[str, ...]:
    """Read the tokens of a file, one a line; empty lines and those that begin with `#` are passed over.

    Raises:
        ConfigError: the file cannot be read, has no token, or has one that is too short.
    """
    try:
        found = tuple(read_lines(name))
    except ValueError as wrong:
        raise ConfigError(f"--admin-token-file: {wrong}") from None
    if not found:
        raise ConfigError(f"--admin-token-file: {name} has no token; expected one a line")
    if not all(len(token) >= MIN_TOKEN and token.isascii() and token.isprintable() for token in found):
        raise ConfigError(
            f"--admin-token-file: {name} has a line that is no token: expected at least {MIN_TOKEN} characters of"
            " ASCII, such as the output of `openssl rand -hex 16`"
        )
    return found
