"""The options of the listen sockets: addresses, Unix sockets, inherited descriptors, TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from se_server.options import integer, option, text

LISTENING = "Listening"
_MAX_DESCRIPTOR = 2**20


def port(raw: object) -> int:
    """Read a TCP port; 0 asks for a free one."""
    return integer(raw, 0, 65535, "a port from 0 to 65535")


def descriptors(raw: object) -> tuple[int, ...]:
    """Read one or several descriptors of open sockets."""
    expected = "the number of an open descriptor, such as 3, or several"
    found = raw if isinstance(raw, list | tuple) else [raw]
    return tuple(integer(item, 3, _MAX_DESCRIPTOR, expected) for item in found)


def host(raw: object) -> str | None:
    """Read an address or a host name; `*` and the empty text mean all interfaces, as None does."""
    if raw in ("", "*"):
        return None
    name = text(raw)
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if any(character.isspace() or character in "/@" for character in name):
        raise ValueError("an address or a host name, such as 127.0.0.1 or ::1")
    before, colon, after = name.partition(":")
    if colon and before and ":" not in after and after.isdecimal():
        raise ValueError(f"an address without its port, which is --port {after}")
    return name


def file_mode(raw: object) -> str:
    """Read the permissions of a file, as text in octal: a number of a TOML file could be meant in either base."""
    digits = raw.strip().removeprefix("0o") if isinstance(raw, str) else ""
    if not digits or len(digits) > 4 or set(digits) - set("01234567") or int(digits, 8) > 0o777:
        raise ValueError('permissions in octal, as text, such as "660"')
    return f"{int(digits, 8):03o}"


@dataclass(frozen=True)
class Listening:
    """Addresses and certificates of a server's listen sockets.

    Attributes:
        host: the address to listen on; None for all interfaces.
        port: the TCP port; 0 takes a free one.
        uds: the path of a Unix socket; None for none.
        uds_mode: the permissions of its file in octal; None for 600, and 660 with a group.
        uds_group: the group of its file, by name or number; None leaves the user's own.
        fd: descriptors of sockets that are open already.
        certfile: the file of the TLS certificate and its chain; None for plain TCP.
        keyfile: the file of the certificate's key, if it is another one.
        ca_certs: the file of the authorities that sign clients' certificates; None asks for no certificate.
    """

    HEADING: ClassVar[str] = LISTENING

    host: str | None = option(None, host, "Address to listen on.", "ADDRESS", default_text="all interfaces")
    port: int = option(3001, port, "Port to listen on; 0 takes a free one.", "PORT", default_text="3001")
    uds: str | None = option(
        None,
        text,
        "Listen on this Unix socket, which only this user can connect to; and on a port if --host or --port is given.",
        "PATH",
    )
    uds_mode: str | None = option(
        None,
        file_mode,
        "The permissions of the Unix socket, in octal: those who may write to it can connect. 660 with --uds-group.",
        "MODE",
        default_text="600",
    )
    uds_group: str | None = option(
        None, text, "The group of the Unix socket, by name or number, whose members can connect.", "GROUP"
    )
    fd: tuple[int, ...] = option(
        (),
        descriptors,
        "Listen on this open socket instead of opening one; may be given several times.",
        "N",
        repeatable=True,
    )
    certfile: str | None = option(None, text, "Serve TLS with this certificate and its chain.", "FILE")
    keyfile: str | None = option(None, text, "The certificate's key, if it is not in the same file.", "FILE")
    ca_certs: str | None = option(
        None, text, "Accept only clients with a certificate that these authorities signed.", "FILE"
    )
