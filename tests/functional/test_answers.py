"""The door's response to each kind of request, over real sockets; `docs/hardening.md` has the table.

`python -m tests.functional.test_answers` writes the table anew, from what the door answers then.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier, sign_token
from se_server.server.door import acceptor
from se_server.server.door.access import Access, networks, required_header
from se_server.server.door.limits import Limits
from se_server.server.listen.sockets import bind
from tests.doors import make_door
from tests.functional.test_door import no_descriptors_left
from tests.helpers import ANSWER_TIMEOUT_S, TEST_API_KEY
from tests.unit.server.door.test_handshake import KEY, TABLE, head, upgrade

PAGE = Path(__file__).parents[2] / "docs" / "hardening.md"
BEGIN, END = "<!-- answers: begin -->\n", "<!-- answers: end -->\n"
ASK_AGAIN = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SHOWN_BYTES = 44

GET = b"GET /ws HTTP/1.1"
GOOD = sign_token(TEST_API_KEY, lifetime_s=86_400)  # made long before the test runs
TOKEN = f"{AUTHORIZATION_HEADER}: {GOOD}".encode()
LOUD_TOKEN = f"{AUTHORIZATION_HEADER.upper()}: {GOOD}".encode()
WRONG_TOKEN = f"{AUTHORIZATION_HEADER}: {sign_token('sk_another')}".encode()
SECRET = b"X-Secret: open sesame"
ANY_CASE = (
    b"HOST: a",
    b"connection: UPGRADE",
    b"UpGrade: WebSocket",
    b"sec-websocket-key: " + KEY,
    b"SEC-WEBSOCKET-VERSION: 13",
)
OFFERS = (
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Protocol: c",
    b"Sec-WebSocket-Extensions: permessage-deflate",
    b"Sec-WebSocket-Extensions: x-other",
)
KEPT_ALIVE = (b"Connection: keep-alive, Upgrade",)

# Beside the requests that are told apart by their head alone: those that the door itself has to look at.
AT_THE_DOOR = {
    "upgrade with a token": upgrade(GET, TOKEN),
    "upgrade as Envoy and nginx pass it on": upgrade(GET, TOKEN, *KEPT_ALIVE, without=b"Connection"),
    "upgrade with names and values in any case": head(GET, *ANY_CASE, LOUD_TOKEN),
    "upgrade with several subprotocols and extensions": upgrade(GET, TOKEN, *OFFERS),
    "upgrade with frames right behind it": upgrade(GET, TOKEN) + b"\x81\x80abcd",
    "upgrade without a token": upgrade(),
    "upgrade with another key's token": upgrade(GET, WRONG_TOKEN),
    "readiness check of a server that is ready": head(b"GET /readyz HTTP/1.1", b"Host: a"),
    "readiness check, HEAD": head(b"HEAD /readyz HTTP/1.1", b"Host: a"),
    "readiness check, HTTP/1.0": head(b"GET /readyz HTTP/1.0"),
    "availability check of a server that is not full": head(b"GET /available HTTP/1.1", b"Host: a"),
    "availability check, OPTIONS": head(b"OPTIONS /available HTTP/1.1", b"Host: a"),
}
ELSEWHERE = {
    "upgrade without the header of `--require-header`": upgrade(GET, TOKEN),
    "upgrade with another value of that header": upgrade(GET, TOKEN, b"X-Secret: open"),
    "upgrade from an address that is not among `--allow-ips`": upgrade(GET, TOKEN),
    "health check from an address that is not among `--allow-ips`": TABLE["health check"][0],
    "head that stops before its end": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-",
    "head that never begins": b"",
    "any request while the process has no descriptors left": TABLE["health check"][0],
}


class Row(NamedTuple):
    name: str
    request: bytes
    status: int
    then: str

    def markdown(self) -> str:
        line = self.request.lstrip(b"\r\n").split(b"\r\n")[0][: SHOWN_BYTES + 1].decode("latin-1")
        line = line[:SHOWN_BYTES] + "..." if len(line) > SHOWN_BYTES else line
        shown = "".join(char if " " <= char <= "~" else f"\\x{ord(char):02x}" for char in line)
        return f"| {self.name} | {f'`{shown}`' if shown else 'nothing'} | {self.status} | {self.then} |"


@asynccontextmanager
async def opened(access: Access | None = None, limits: Limits | None = None) -> AsyncIterator[int]:
    sockets = bind("127.0.0.1", 0)
    door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), access=access, limits=limits)
    port = sockets[0].getsockname()[1]
    door.open()
    try:
        yield port
    finally:
        await door.close()


async def ask(port: int, name: str, request: bytes) -> Row:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    row = Row(name, request, *await asyncio.wait_for(answer(reader, writer, request), ANSWER_TIMEOUT_S))
    writer.close()
    await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
    return row


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, str]:
    """Read an answer, and find out what becomes of the connection."""
    top = await reader.readuntil(b"\r\n\r\n")
    status = int(top[9:12])
    if status == 101:
        assert b"sec-websocket-extensions" not in top.lower()  # above all no compression
        return status, "a conversation"
    if not request.startswith(b"HEAD"):
        fields = dict(line.split(b": ", 1) for line in top.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"Content-Length"]))
    try:
        writer.write(ASK_AGAIN)
        rest = await reader.read()
    except ConnectionError:  # closed before it could be asked
        rest = b""
    assert rest == b"" or rest.startswith(b"HTTP/1.1 200 OK\r\n")
    return status, "kept" if rest else "closed"


async def answers() -> list[Row]:
    rows = []
    requests = {**AT_THE_DOOR, **{name: row[0] for name, row in TABLE.items()}}
    async with opened() as port:
        rows += [await ask(port, name, request) for name, request in requests.items()]
    header = Access(require_header=required_header(SECRET.decode().replace(": ", "=")))
    others = iter(ELSEWHERE.items())
    async with opened(header) as port:
        rows += [await ask(port, *next(others)) for _ in range(2)]
        assert (await ask(port, "", upgrade(GET, TOKEN, SECRET))).status == 101
    async with opened(Access(allow_ips=networks("198.51.100.0/24"))) as port:
        rows += [await ask(port, *next(others)) for _ in range(2)]
    async with opened(limits=Limits(head_timeout_s=0.05)) as port:
        rows += [await ask(port, *next(others)) for _ in range(2)]
    async with opened() as port:
        rows.append(await ask_without_descriptors(port, *next(others)))
    return sorted(rows, key=lambda row: row.status)


async def ask_without_descriptors(port: int, name: str, request: bytes) -> Row:
    loop = asyncio.get_running_loop()
    with socket.socket() as waiting:
        waiting.setblocking(False)
        with no_descriptors_left():
            await loop.sock_connect(waiting, ("127.0.0.1", port))
            await loop.sock_sendall(waiting, request)
            data = b""
            while piece := await asyncio.wait_for(loop.sock_recv(waiting, 4096), ANSWER_TIMEOUT_S):
                data += piece
    return Row(name, request, int(data[9:12]), "closed")


def table(rows: list[Row]) -> str:
    lines = ["| request | its first line | answer | connection |", "| --- | --- | ---: | --- |"]
    return "\n".join([*lines, *(row.markdown() for row in rows)]) + "\n"


def run(coroutine: Coroutine[Any, Any, list[Row]], *, on_uvloop: bool) -> list[Row]:
    loop = uvloop.new_event_loop() if on_uvloop else asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.mark.parametrize("on_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_documented_responses_are_those_of_the_door(monkeypatch: pytest.MonkeyPatch, *, on_uvloop: bool) -> None:
    monkeypatch.setattr(acceptor, "PAUSES_S", (0.02, 0.04))
    rows = run(answers(), on_uvloop=on_uvloop)
    for row in rows:
        if row.name in TABLE:
            _, status, keep_alive, _ = TABLE[row.name]
            assert (row.status, row.then) == (status, "kept" if keep_alive else "closed"), row.name
    documented = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert documented == table(rows), "write it anew: python -m tests.functional.test_answers"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table(run(answers(), on_uvloop=True)) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
