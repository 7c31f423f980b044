"""The request head: what it comes to, however it was cut on its way."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator

import pytest

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier
from se_server.server.door import responses
from se_server.server.door.admission import DRAINING, OVERLOADS
from se_server.server.door.handshake import Handshake, Upgrade
from se_server.server.door.limits import Limits
from se_server.server.door.responses import Response
from se_server.server.door.routes import OWN_PATHS
from tests.doors import make_routes

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
PEER = "127.0.0.1:5000"


def head(line: bytes = b"GET /ws HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join((line, *fields, b"", b""))


def upgrade(line: bytes = b"GET /ws HTTP/1.1", *more: bytes, without: bytes = b"none") -> bytes:
    fields = (
        b"Host: agent.example",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
    )
    return head(line, *(field for field in fields if not field.startswith(without)), *more)


def reading(path: str | None = "/ws", limits: Limits | None = None) -> Handshake:
    return Handshake(make_routes(path), limits or Limits(), PEER)


def outcome(data: bytes, path: str | None = "/ws") -> Response | Upgrade:
    result = reading(path).feed(data)
    assert result is not None
    return result


def outcomes(data: bytes, reader: Handshake) -> Iterator[Response | Upgrade]:
    result = reader.feed(data)
    while result is not None:
        yield result
        if isinstance(result, Upgrade) or not result.keep_alive:
            return
        result = reader.feed(b"")


HOST = b"Host: agent.example"
LONG = b"X-Filler: " + b"x" * 16384

# request, status, whether the connection stays, a header line that the answer must carry
TABLE: dict[str, tuple[bytes, int, bool, bytes]] = {
    "health check": (head(b"GET /healthz HTTP/1.1", HOST), 200, True, b"Content-Length: 3"),
    "liveness check": (head(b"GET /livez HTTP/1.1", HOST), 200, True, b"Content-Length: 3"),
    "liveness check, OPTIONS": (head(b"OPTIONS /livez HTTP/1.1", HOST), 200, True, b"Allow: GET, HEAD, OPTIONS"),
    "health check without Host": (head(b"GET /healthz HTTP/1.1"), 200, True, b""),
    "health check, HTTP/1.0": (head(b"GET /healthz HTTP/1.0"), 200, False, b"Connection: close"),
    "health check, HTTP/1.0 keep-alive": (head(b"GET /healthz HTTP/1.0", b"Connection: keep-alive"), 200, False, b""),
    "health check, HEAD": (head(b"HEAD /healthz HTTP/1.1", HOST), 200, True, b"Content-Length: 3"),
    "health check, HEAD, HTTP/1.0": (head(b"HEAD /healthz HTTP/1.0"), 200, False, b""),
    "health check, OPTIONS": (head(b"OPTIONS /healthz HTTP/1.1", HOST), 200, True, b"Allow: GET, HEAD, OPTIONS"),
    "health check, OPTIONS, HTTP/1.0": (head(b"OPTIONS /healthz HTTP/1.0"), 200, False, b""),
    "health check with a query": (head(b"GET /healthz?from=lb HTTP/1.1", HOST), 200, True, b""),
    "health check, connection: close": (head(b"GET /healthz HTTP/1.1", b"connection: close"), 200, False, b""),
    "health check offering h2c": (
        head(b"GET /healthz HTTP/1.1", HOST, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
        200,
        True,
        b"",
    ),
    "health check with upgrade headers": (upgrade(b"GET /healthz HTTP/1.1"), 200, True, b""),
    "health check, absolute target": (head(b"GET http://agent.example/healthz HTTP/1.1", HOST), 200, True, b""),
    "health check, empty body announced": (head(b"GET /healthz HTTP/1.1", b"Content-Length: 0"), 200, True, b""),
    "empty lines first": (b"\r\n\r\n" + head(b"GET /healthz HTTP/1.1", HOST), 200, True, b""),
    "HAProxy's plain httpchk": (head(b"OPTIONS / HTTP/1.0"), 200, False, b"Allow: GET, HEAD, OPTIONS"),
    "OPTIONS *": (head(b"OPTIONS * HTTP/1.1", HOST), 200, True, b""),
    "OPTIONS elsewhere": (head(b"OPTIONS /nowhere HTTP/1.1", HOST), 404, True, b""),
    "plain GET on the WebSocket path": (head(b"GET /ws HTTP/1.1", HOST), 426, True, b"Upgrade: websocket"),
    "plain GET with a query": (head(b"GET /ws?a=b HTTP/1.1", HOST), 426, True, b"Connection: Upgrade"),
    "plain HEAD on the WebSocket path": (head(b"HEAD /ws HTTP/1.1", HOST), 426, True, b"Upgrade: websocket"),
    "plain GET, HTTP/1.0": (head(b"GET /ws HTTP/1.0"), 426, False, b"Connection: Upgrade, close"),
    "upgrade in HTTP/1.0": (upgrade(b"GET /ws HTTP/1.0"), 426, False, b"Upgrade: websocket"),
    "Upgrade not named in Connection": (upgrade(without=b"Connection"), 426, True, b"Upgrade: websocket"),
    "upgrade to something else": (upgrade(b"GET /ws HTTP/1.1", b"Upgrade: h2c", without=b"Upgrade"), 426, True, b""),
    "version 8": (
        upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Version: 8", without=b"Sec-WebSocket-Version"),
        426,
        False,
        b"Sec-WebSocket-Version: 13",
    ),
    "version missing": (upgrade(without=b"Sec-WebSocket-Version"), 426, False, b"Sec-WebSocket-Version: 13"),
    "version twice": (upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Version: 13"), 400, False, b""),
    "key missing": (upgrade(without=b"Sec-WebSocket-Key"), 400, False, b"Connection: close"),
    "key of 15 bytes": (
        upgrade(
            b"GET /ws HTTP/1.1", b"Sec-WebSocket-Key: " + base64.b64encode(bytes(15)), without=b"Sec-WebSocket-Key"
        ),
        400,
        False,
        b"",
    ),
    "key of 17 bytes": (
        upgrade(
            b"GET /ws HTTP/1.1", b"Sec-WebSocket-Key: " + base64.b64encode(bytes(17)), without=b"Sec-WebSocket-Key"
        ),
        400,
        False,
        b"",
    ),
    "key that is no base64": (
        upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Key: dGhlIHNhb*BsZSBub25jZQ==", without=b"Sec-WebSocket-Key"),
        400,
        False,
        b"",
    ),
    "key twice": (upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Key: " + KEY), 400, False, b""),
    "upgrade without Host": (upgrade(without=b"Host"), 400, False, b""),
    "several Host headers": (head(b"GET /healthz HTTP/1.1", HOST, b"host: other.example"), 400, False, b""),
    "upgrade on another path": (upgrade(b"GET /other HTTP/1.1"), 404, False, b"Connection: close"),
    "upgrade on a longer path": (upgrade(b"GET /ws/ HTTP/1.1"), 404, False, b""),
    "no such path": (head(b"GET /nowhere HTTP/1.1", HOST), 404, True, b""),
    "no such path, HEAD": (head(b"HEAD /nowhere HTTP/1.1", HOST), 404, True, b""),
    "POST": (head(b"POST /ws HTTP/1.1", HOST, b"Content-Length: 0"), 405, False, b"Allow: GET, HEAD, OPTIONS"),
    "DELETE on no such path": (head(b"DELETE /nowhere HTTP/1.1", HOST), 405, False, b""),
    "CONNECT": (head(b"CONNECT agent.example:443 HTTP/1.1", HOST), 405, False, b""),
    "a method nobody knows": (head(b"BREW /ws HTTP/1.1", HOST), 405, False, b""),
    "upgrade by POST": (upgrade(b"POST /ws HTTP/1.1"), 405, False, b""),
    "body": (head(b"GET /healthz HTTP/1.1", HOST, b"Content-Length: 5") + b"hello", 413, False, b"Connection: close"),
    "body, POST": (head(b"POST /ws HTTP/1.1", HOST, b"Content-Length: 5"), 413, False, b""),
    "chunked body": (head(b"GET /healthz HTTP/1.1", HOST, b"Transfer-Encoding: chunked"), 413, False, b""),
    "upgrade with a body": (upgrade(b"GET /ws HTTP/1.1", b"Content-Length: 2"), 413, False, b""),
    "huge header": (head(b"GET /healthz HTTP/1.1", HOST, LONG), 431, False, b"Connection: close"),
    "huge target": (head(b"GET /" + b"x" * 16384 + b" HTTP/1.1", HOST), 431, False, b""),
    "101 headers": (head(b"GET /healthz HTTP/1.1", *[b"X-%d: y" % n for n in range(101)]), 431, False, b""),
    "100 headers": (head(b"GET /healthz HTTP/1.1", *[b"X-%d: y" % n for n in range(100)]), 200, True, b""),
    "no HTTP": (b"hello\r\n\r\n", 400, False, b"Connection: close"),
    "TLS": (bytes.fromhex("16030100c8010000c40303"), 400, False, b""),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400, False, b""),
    "HTTP/1.2": (head(b"GET /healthz HTTP/1.2", HOST), 400, False, b""),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, False, b""),
    "RTSP": (head(b"GET /healthz RTSP/1.0", HOST), 400, False, b""),
    "lower-case method": (head(b"get /healthz HTTP/1.1", HOST), 400, False, b""),
    "two spaces": (head(b"GET  /healthz HTTP/1.1", HOST), 400, False, b""),
    "space in the target": (head(b"GET /heal thz HTTP/1.1", HOST), 400, False, b""),
    "fragment in the target": (head(b"GET /healthz#top HTTP/1.1", HOST), 400, False, b""),
    "target without a slash": (head(b"GET healthz HTTP/1.1", HOST), 400, False, b""),
    "GET *": (head(b"GET * HTTP/1.1", HOST), 400, False, b""),
    "non-ASCII target": (head("GET /hé HTTP/1.1".encode(), HOST), 400, False, b""),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: a\n\n", 400, False, b""),
    "a bare line feed ends a header": (b"GET /healthz HTTP/1.1\r\nHost: a\n\r\n", 400, False, b""),
    "a bare line feed ends the head": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\n", 400, False, b""),
    "a bare carriage return": (b"GET /healthz HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, False, b""),
    "obsolete line folding": (head(b"GET /healthz HTTP/1.1", b"X-Long: a", b" b"), 400, False, b""),
    "line folding first": (head(b"GET /healthz HTTP/1.1", b" X-Long: a"), 400, False, b""),
    "NUL in a header": (head(b"GET /healthz HTTP/1.1", b"Host: a\x00b"), 400, False, b""),
    "control character in a header": (head(b"GET /healthz HTTP/1.1", b"Host: a\x01b"), 400, False, b""),
    "space before the colon": (head(b"GET /healthz HTTP/1.1", b"Host : a"), 400, False, b""),
    "header without a colon": (head(b"GET /healthz HTTP/1.1", b"Host"), 400, False, b""),
    "header without a name": (head(b"GET /healthz HTTP/1.1", b": a"), 400, False, b""),
    "two lengths": (
        head(b"GET /healthz HTTP/1.1", b"Content-Length: 0", b"Content-Length: 0"),
        400,
        False,
        b"",
    ),
    "length and chunked": (
        head(b"GET /healthz HTTP/1.1", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        400,
        False,
        b"",
    ),
    "a bare line feed in what is too large": (b"GET /healthz HTTP/1.1\nHost: " + b"a" * 20_000, 400, False, b""),
    "a bare line feed behind an unknown method": (head(b"BREW /healthz HTTP/1.1", b"Host: a\nb"), 400, False, b""),
    "negative length": (head(b"GET /healthz HTTP/1.1", b"Content-Length: -1"), 400, False, b""),
}


@pytest.mark.parametrize("name", TABLE)
def test_request_gets_its_answer(name: str) -> None:
    request, status, keep_alive, field = TABLE[name]
    answer = outcome(request)
    assert isinstance(answer, Response)
    assert (answer.status, answer.keep_alive) == (status, keep_alive)
    top, _, body = answer.data.partition(b"\r\n\r\n")
    lines = top.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert field == b"" or field in lines
    assert (b"close" in top) is not keep_alive
    announced = next(int(line[16:]) for line in lines if line.startswith(b"Content-Length: "))
    assert len(body) == (0 if request.startswith(b"HEAD") else announced) <= 64
    assert bool(answer.reason) is (status != 200)


@pytest.mark.parametrize("name", TABLE)
def test_response_does_not_depend_on_fragmentation(name: str) -> None:
    request, status, *_ = TABLE[name]
    cuts = range(1, len(request)) if len(request) < 1000 else (1, 5000, 16383, 16384, 16385, len(request) - 1)
    for cut in cuts:
        reader = reading()
        answer = reader.feed(request[:cut]) or reader.feed(request[cut:])
        assert isinstance(answer, Response)
        assert answer.status == status
    if len(request) < 1000:
        reader = reading()
        found = (reader.feed(request[n : n + 1]) for n in range(len(request)))
        answer = next(result for result in found if result is not None)
        assert isinstance(answer, Response)
        assert answer.status == status


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"a\tb",
        b"a, b",
        b"a,b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"user@a",
        b"a:b",
        b"a:65536",
        b"a:-1",
        b"a:80:80",
        b"a%zz",
        b"a%2",
        b"<a>",
        b'"a"',
        b"a\\b",
        b"\xc3\xa9",
        b"[",
        b"[]",
        b"[::1",
        b"::1",
        b"[::1]a",
        b"[1::2::3]",
        b"[12345::]",
        b"[127.0.0.1]",
        b"[v1.a]",
        b"[" + b"1:" * 4000 + b"]",
        b"a" * 256,
        b"a" * 15000,
        b"%41" * 5000,
    ],
)
def test_invalid_host_is_refused(host: bytes) -> None:
    for request in (
        upgrade(b"GET /ws HTTP/1.1", b"Host: " + host, without=b"Host"),
        head(b"GET /x HTTP/1.1", b"Host:" + host),
    ):
        answer = outcome(request)
        assert isinstance(answer, Response)
        assert answer.status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"agent.example",
        b"agent.example.:443",
        b"a_b-c~d",
        b"127.0.0.1:65535",
        b"[::1]",
        b"[2001:DB8::7]:8443",
        b"[::ffff:192.0.2.1]",
        b"[fe80::1%25eth0]:3001",
        b"xn--bcher-kva.example",
        b"a%2Db",
        b"a:",
        b"a" * 255,
    ],
)
def test_valid_host_is_let_in(host: bytes) -> None:
    assert isinstance(outcome(upgrade(b"GET /ws HTTP/1.1", b"Host:  " + host + b" ", without=b"Host")), Upgrade)


def test_empty_host_is_for_plain_requests_only() -> None:
    plain, upgraded = (
        outcome(head(b"GET /healthz HTTP/1.1", b"Host:")),
        outcome(upgrade(b"GET /ws HTTP/1.1", b"Host: ", without=b"Host")),
    )
    assert isinstance(plain, Response)
    assert isinstance(upgraded, Response)
    assert (plain.status, upgraded.status) == (200, 400)


@pytest.mark.parametrize("name", [b"Connection", b"Upgrade"])
@pytest.mark.parametrize("value", [b"," * 15000, b"a," * 7000, b" ,\t" * 5000, b"," * 32])
def test_long_lists_are_refused(name: bytes, value: bytes) -> None:
    for request in (
        upgrade(b"GET /ws HTTP/1.1", name + b": " + value),
        head(b"GET /healthz HTTP/1.1", name + b":" + value),
    ):
        answer = outcome(request)
        assert isinstance(answer, Response)
        assert answer.status == 431


def test_list_on_many_lines_counts_as_one() -> None:
    assert isinstance(outcome(upgrade(b"GET /ws HTTP/1.1", *[b"Connection: a"] * 31)), Upgrade)
    answer = outcome(upgrade(b"GET /ws HTTP/1.1", *[b"Connection: a"] * 32))
    assert isinstance(answer, Response)
    assert answer.status == 431


def cpu_s(data: bytes, step: int) -> float:
    """Return the CPU time of reading a head in pieces, by the best of several times."""
    pieces, times = [data[n : n + step] for n in range(0, len(data), step)], []
    for _ in range(5):
        reader = reading()
        began = time.thread_time()
        for piece in pieces:
            if reader.feed(piece) is not None:
                break
        times.append(time.thread_time() - began)
    return min(times)


LARGE_HEADS = {
    "value": lambda size: upgrade(b"GET /ws HTTP/1.1", b"X: " + b"x" * size),
    "target": lambda size: upgrade(b"GET /" + b"a" * size + b" HTTP/1.1"),
    "lines": lambda size: upgrade(b"GET /ws HTTP/1.1", *[b"X: " + b"v" * (size // 90)] * 90),
    "commas": lambda size: upgrade(b"GET /ws HTTP/1.1", b"Connection: " + b"," * size),
    "protocols": lambda size: upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Protocol: " + b"," * size),
    "extensions": lambda size: upgrade(b"GET /ws HTTP/1.1", b"Sec-WebSocket-Extensions: " + b"a;b," * (size // 4)),
    "carriage returns": lambda size: upgrade(b"GET /ws HTTP/1.1", b"X: " + b"\r" * size),
    "without an end": lambda size: upgrade(b"GET /ws HTTP/1.1", b"X: " + b"x" * size)[:-4],
}


@pytest.mark.parametrize("make", LARGE_HEADS.values(), ids=LARGE_HEADS)
def test_head_in_pieces_costs_linear_time(make: Callable[[int], bytes]) -> None:
    large, small = make(15_000), make(3_000)
    # Five times the bytes: 25 times the time if each byte were looked at again with every piece.
    assert cpu_s(large, 1) < 10 * cpu_s(small, 1)


@pytest.mark.parametrize("make", LARGE_HEADS.values(), ids=LARGE_HEADS)
def test_outcome_of_large_head_is_independent_of_pieces(make: Callable[[int], bytes]) -> None:
    for size in (15_000, 17_000):
        request = make(size)
        whole = reading().feed(request)
        for step in (1, 7, 1460):
            reader, result = reading(), None
            for n in range(0, len(request), step):
                result = reader.feed(request[n : n + step])
                if result is not None:
                    break
            assert result is whole or (type(result) is Upgrade is type(whole))


def test_answers_are_constants() -> None:
    request = head(b"GET /healthz HTTP/1.1", HOST)
    assert outcome(request) is outcome(request)


def test_answers_say_nothing_of_the_reason() -> None:
    answers = [value for value in vars(responses).values() if isinstance(value, Response)]
    for status in {answer.status for answer in answers}:
        refusals = [answer.data for answer in answers if answer.status == status]
        if status in (400, 431):  # several reasons each
            assert len(refusals) > 1
            assert len(set(refusals)) == 1


def test_upgrade_carries_the_request_and_what_followed_it() -> None:
    frames = b"\x81\x85abcd\x00\x00\x00\x00\x00"
    result = outcome(upgrade(b"GET /ws?tenant=7&x=%20 HTTP/1.1", b"X-Caller:  +43 1  ") + frames)
    assert isinstance(result, Upgrade)
    assert (result.request.path, result.request.query, result.request.remote) == ("/ws", "tenant=7&x=%20", PEER)
    assert result.request.headers["x-caller"] == "+43 1"
    assert result.websocket_key == KEY
    assert result.tail == frames
    assert result.authorization is None


def test_upgrade_split_at_every_byte() -> None:
    request = upgrade(b"GET /ws HTTP/1.1", b"X-Caller: me") + b"\x81"
    whole = outcome(request)
    assert isinstance(whole, Upgrade)
    for cut in range(1, len(request)):
        reader = reading()
        result = reader.feed(request[:cut]) or reader.feed(request[cut:])
        assert isinstance(result, Upgrade)
        assert result.websocket_key == KEY
        assert list(result.request.headers.items_raw()) == list(whole.request.headers.items_raw())
        assert result.tail == (b"\x81" if cut < len(request) - 1 else b"")
    reader = reading()
    results = [reader.feed(request[n : n + 1]) for n in range(len(request) - 1)]
    assert results[:-1] == [None] * (len(request) - 2)
    assert isinstance(results[-1], Upgrade)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"),
        (b"connection: upgrade", b"upgrade: WebSocket"),
        (b"CONNECTION:keep-alive ,\tUPGRADE", b"UPGRADE:\twebsocket "),
        (b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c, websocket"),
    ],
)
def test_upgrade_as_balancers_pass_it_on(fields: tuple[bytes, ...]) -> None:
    request = head(b"GET /ws HTTP/1.1", b"HOST: a", *fields, b"sec-websocket-key: " + KEY, b"SEC-WEBSOCKET-VERSION:13")
    assert isinstance(outcome(request), Upgrade)


def test_several_protocol_and_extension_headers_pass() -> None:
    more = (b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b, c", b"Sec-WebSocket-Extensions: x") * 2
    result = outcome(upgrade(b"GET /ws HTTP/1.1", *more))
    assert isinstance(result, Upgrade)
    assert result.request.headers.getall("sec-websocket-protocol") == ["a", "b, c"] * 2


def test_verified_token_is_dropped_from_the_headers() -> None:
    name = AUTHORIZATION_HEADER.encode()
    lines = (name.upper() + b": one", b"X-A: 1", name + b":two", name + b": two", b"X-B: " + name + b": three")
    routes = make_routes("/ws", verifier=TokenVerifier("a key"))
    result = Handshake(routes, Limits(), PEER).feed(upgrade(b"GET /ws HTTP/1.1", *lines))
    assert isinstance(result, Upgrade)
    assert result.authorization == "one"
    headers = result.request.headers
    assert headers.getall(AUTHORIZATION_HEADER) == []
    assert (headers["x-a"], headers["x-b"]) == ("1", f"{AUTHORIZATION_HEADER}: three")
    assert len(headers) == 7


def test_first_token_header_counts() -> None:
    name = AUTHORIZATION_HEADER.encode()
    result = outcome(upgrade(b"GET /ws HTTP/1.1", name.lower() + b":  Bearer one ", name.upper() + b": two"))
    assert isinstance(result, Upgrade)
    assert result.authorization == "Bearer one"


def test_route_without_path_takes_all_other_paths() -> None:
    assert isinstance(outcome(upgrade(b"GET /any/where HTTP/1.1"), path=None), Upgrade)
    for request, status in (
        (head(b"GET /any HTTP/1.1", HOST), 426),
        (head(b"OPTIONS /any HTTP/1.1", HOST), 200),
        (upgrade(b"GET /healthz HTTP/1.1"), 200),
    ):
        answer = outcome(request, path=None)
        assert isinstance(answer, Response)
        assert answer.status == status


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://agent.example/ws?x=1", "/ws", "x=1"),
        (b"HTTPS://agent.example:8443/ws", "/ws", ""),
        (b"http://agent.example", "/", ""),
        (b"http://agent.example?x", "/", "x"),
        (b"/ws?a?b", "/ws", "a?b"),
        (b"//ws", "//ws", ""),
    ],
)
def test_target_forms(target: bytes, path: str, query: str) -> None:
    result = outcome(upgrade(b"GET " + target + b" HTTP/1.1"), path=None)
    assert isinstance(result, Upgrade)
    assert (result.request.path, result.request.query) == (path, query)


def test_pipelined_requests_are_answered_one_by_one() -> None:
    check = head(b"GET /healthz HTTP/1.1", HOST)
    reader = reading()
    answers = list(outcomes(check + head(b"GET /x HTTP/1.1", HOST) + check + upgrade() + b"\x81", reader))
    assert [answer.status if isinstance(answer, Response) else 101 for answer in answers] == [200, 404, 200, 101]
    assert isinstance(answers[-1], Upgrade)
    assert answers[-1].tail == b"\x81"


def test_a_flood_of_pipelined_requests_is_cut() -> None:
    reader = reading(limits=Limits(max_pipelined=4))
    check = head(b"GET /healthz HTTP/1.1", HOST)
    answers = list(outcomes(check * 100, reader))
    assert len(answers) == 4
    assert [answer.keep_alive for answer in answers if isinstance(answer, Response)] == [True, True, True, False]


def test_steady_requests_on_one_connection_are_never_cut() -> None:
    reader = reading(limits=Limits(max_pipelined=2))
    check = head(b"GET /healthz HTTP/1.1", HOST)
    for _ in range(50):
        answer = reader.feed(check)
        assert isinstance(answer, Response)
        assert answer.keep_alive
        assert reader.idle


def test_malformed_request_has_an_empty_path() -> None:
    reader = reading()
    answer = reader.feed(head(b"GET /healthz HTTP/1.1", HOST))
    assert isinstance(answer, Response)
    assert (answer.status, reader.path) == (200, "/healthz")
    answer = reader.feed(b"get")
    assert isinstance(answer, Response)
    assert (answer.status, reader.path) == (400, "")


def test_idle_means_an_empty_buffer() -> None:
    reader = reading()
    assert reader.idle
    assert reader.feed(b"\r\n") is None
    assert reader.idle
    assert reader.feed(b"GE") is None
    assert not reader.idle


def test_an_endless_head_is_refused_at_the_limit() -> None:
    reader = reading()
    fed = 0
    result = reader.feed(b"GET /ws HTTP/1.1\r\n")
    while result is None:
        fed += 1
        result = reader.feed(b"a: b\r\n")
    assert isinstance(result, Response)
    assert result.status == 431
    assert 16384 < 18 + fed * 6 <= 16390


@pytest.mark.parametrize(
    "start", [b"\x16\x03", b"get", b"GET/", b"GET /\x80", b"GET / FTP", b"GET / HTTP/1.1 ", b"\x00"]
)
def test_impossible_beginning_is_refused_at_once(start: bytes) -> None:
    answer = outcome(start)
    assert isinstance(answer, Response)
    assert answer.status == 400


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
@pytest.mark.parametrize("obstacle", ["", DRAINING, *OVERLOADS])
def test_only_a_drain_denies_readiness(obstacle: str, method: bytes) -> None:
    statuses = {}
    for path in OWN_PATHS:
        reader = Handshake(make_routes("/ws"), Limits(), PEER, lambda: obstacle)
        answer = reader.feed(head(method + b" " + path.encode() + b" HTTP/1.1", HOST))
        assert isinstance(answer, Response)
        assert answer.keep_alive
        assert (b"\r\nRetry-After: " in answer.data) == (obstacle in OVERLOADS and path == "/available")
        statuses[path] = answer.status
    assert statuses == {
        "/healthz": 200,
        "/livez": 200,
        "/readyz": 503 if obstacle == DRAINING else 200,
        "/available": 503 if obstacle else 200,
    }


@pytest.mark.parametrize("path", OWN_PATHS)
def test_envoy_learns_of_a_drain_from_every_check(path: str) -> None:
    for obstacle, told in (("", False), (DRAINING, True), (OVERLOADS[0], False)):
        reader = Handshake(make_routes("/ws"), Limits(), PEER, lambda obstacle=obstacle: obstacle)
        answer = reader.feed(head(b"GET " + path.encode() + b" HTTP/1.1", HOST))
        assert isinstance(answer, Response)
        assert (b"\r\nx-envoy-immediate-health-check-fail: true\r\n" in answer.data) == told
