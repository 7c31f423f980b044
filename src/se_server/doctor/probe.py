"""Send one upgrade request by hand and read the raw answer, without a client library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from se_server.address import Address
from se_server.client_tls import SYSTEM_TLS, ClientTls

MAX_HEAD_BYTES = 65536
MAX_BODY_BYTES = 2048
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to an upgrade request.

    Attributes:
        status: the HTTP status.
        headers: the headers by lower-case name; of repeated headers the last.
        body: the beginning of the body, as text.
        is_valid_upgrade: whether the answer is a 101 with a valid Sec-WebSocket-Accept.
    """

    status: int
    headers: Mapping[str, str]
    body: str
    is_valid_upgrade: bool


class NoHttp(Exception):
    """The answer is not HTTP; `data` is its beginning, empty when the server closed without an answer."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"{len(data)} bytes that are not HTTP" if data else "nothing")
        self.data = data


async def resolve(address: Address) -> list[str]:
    """Return the addresses of the host.

    Raises:
        socket.gaierror: the name is unknown.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def ask_upgrade(
    address: Address,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    tls: ClientTls = SYSTEM_TLS,
) -> HttpAnswer:
    """Send an upgrade request and read the answer; an upgraded connection is closed.

    Args:
        address: the server.
        headers: further headers.
        timeout_s: the longest wait for the connection, and again for the answer, in seconds.
        tls: the certificates for `wss://`.

    Raises:
        OSError: the connection or the TLS handshake failed, or the certificate is not trusted
            (`ssl.SSLCertVerificationError`).
        asyncio.TimeoutError: no connection, or no answer, in time.
        NoHttp: the answer is not HTTP.
    """
    context = tls.context() if address.is_tls else None
    connecting = asyncio.open_connection(address.host, address.port, ssl=context, limit=MAX_HEAD_BYTES)
    reader, writer = await asyncio.wait_for(connecting, timeout_s)
    try:
        key = base64.b64encode(secrets.token_bytes(16))
        writer.write(_request(address, key, headers))
        return await asyncio.wait_for(_read_answer(reader, key), timeout_s)
    finally:
        writer.close()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1.0)


def _request(address: Address, key: bytes, headers: Mapping[str, str]) -> bytes:
    fields = {
        "Host": address.host_header,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {address.target} HTTP/1.1\r\n{lines}\r\n".encode()


async def _read_answer(reader: asyncio.StreamReader, key: bytes) -> HttpAnswer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise NoHttp(error.partial[:100]) from None
    except asyncio.LimitOverrunError:
        raise NoHttp(await reader.read(100)) from None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d{3})\b", status_line)
    if found is None:
        raise NoHttp(head[:100])
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    status = int(found[1])
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest()).decode()
    if status == 101:
        return HttpAnswer(status, headers, "", headers.get("sec-websocket-accept") == accept)
    body = b""
    length = headers.get("content-length", "")
    wanted = min(int(length), MAX_BODY_BYTES) if length.isdecimal() and len(length) < 10 else MAX_BODY_BYTES
    with suppress(asyncio.TimeoutError, OSError):
        while len(body) < wanted and (data := await asyncio.wait_for(reader.read(wanted - len(body)), 1.0)):
            body += data
    return HttpAnswer(status, headers, body.decode("utf-8", "replace"), False)
