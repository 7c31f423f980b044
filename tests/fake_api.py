"""A local HTTP server that behaves like the Speech Engine part of the REST API: real sockets, one thread a request.

It keeps engines in memory, demands the key, pages its lists, and remembers every request. `answer_next` scripts errors
and delays of the API.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ENGINES = "/v1/speech-engine"
CONVERSATIONS = "/v1/convai/conversation"
RECORDS = "/v1/convai/conversations"

# Defaults of the API for fields that a request leaves out.
DEFAULTS: dict[str, Any] = {
    "name": "New Speech Engine",
    "asr": {"quality": "high", "provider": "elevenlabs", "keywords": ["se-server"]},
    "tts": {"voice_id": "voice_1", "model_id": "eleven_flash_v2", "pronunciation": {"locators": [{"id": "p1"}]}},
    "turn": {"turn_timeout": 7.0},
    "vad": {"background_voice_detection": False},
    "conversation": {"max_duration_seconds": 600, "client_events": ["audio"]},
    "privacy": {"record_voice": True},
    "call_limits": {"agent_concurrency_limit": -1},
    "auth": {"enable_auth": False},
    "language": "en",
    "cascade_timeout_seconds": 4.0,
    "tags": [],
    "overrides": {},
    "metadata": {"created_at_unix_secs": 1, "updated_at_unix_secs": 1},
}


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Scripted:
    """A scripted answer that replaces the real one; with `silent` the server never answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    cut_off: bool = False


class FakeApi:
    """The API's state. `url` is its address, `requests` are the requests so far, `engines` the existing engines.

    With `keep_alive` a connection stays open until the client ends it, which sets `hung_up`.
    """

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key
        self.url = ""
        self.requests: list[Received] = []
        self.engines: dict[str, dict[str, Any]] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.keep_alive = False
        self.hung_up = threading.Event()
        self.closing = threading.Event()
        self._scripted: deque[Scripted] = deque()
        self._made = 0

    def answer_next(self, status: int = 200, body: object = b"", **rest: Any) -> None:
        """Script the answer to the next unscripted request; a body other than bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._scripted.append(Scripted(status, content, **rest))

    def add_engine(self, **fields: Any) -> str:
        """Make an engine and return its id."""
        self._made += 1
        engine_id = f"seng_{self._made:03}"
        self.engines[engine_id] = {"speech_engine_id": engine_id, **DEFAULTS, **fields}
        return engine_id

    def handle(self, request: Received) -> Scripted:
        """Answer one request."""
        self.requests.append(request)
        if self._scripted:
            return self._scripted.popleft()
        if request.headers.get("xi-api-key") != self.api_key:
            return _error(401, {"status": "invalid_api_key", "message": "Invalid API key"})
        if request.path in (f"{CONVERSATIONS}/token", f"{CONVERSATIONS}/get-signed-url"):
            return self._open_conversation(request)
        if request.path.startswith(f"{RECORDS}/"):
            record = self.records.get(unquote(request.path.removeprefix(f"{RECORDS}/")))
            return _json(record) if record else _error(404, {"status": "not_found", "message": "No conversation"})
        if request.path == ENGINES:
            return self._list(request) if request.method == "GET" else self._create(request)
        engine_id, _, action = request.path.removeprefix(f"{ENGINES}/").partition("/")
        engine = self.engines.get(unquote(engine_id))
        if engine is None:
            return _error(404, {"status": "speech_engine_not_found", "message": "No such Speech Engine"})
        if action == "duplicate":
            copy = {name: value for name, value in engine.items() if name != "speech_engine_id"}
            return _json(self.engines[self.add_engine(**{**copy, "name": f"{engine['name']} (copy)", **request.body})])
        if request.method == "DELETE":
            del self.engines[engine["speech_engine_id"]]
            return Scripted(204)
        if request.method == "PATCH":
            engine.update(request.body)
        return _json(engine)

    def _create(self, request: Received) -> Scripted:
        if "ws_url" not in (request.body.get("speech_engine") or {}):
            return _error(
                422, [{"loc": ["body", "speech_engine", "ws_url"], "msg": "Field required", "type": "missing"}]
            )
        return _json(self.engines[self.add_engine(**request.body)])

    def _list(self, request: Received) -> Scripted:
        found = [engine for engine in self.engines.values() if request.query.get("search", "") in engine["name"]]
        start, size = int(request.query.get("cursor", 0)), int(request.query.get("page_size", 30))
        more = start + size < len(found)
        page = [
            {"speech_engine_id": engine["speech_engine_id"], "name": engine["name"], "tags": engine["tags"]}
            for engine in found[start : start + size]
        ]
        return _json({"speech_engines": page, "next_cursor": str(start + size) if more else None, "has_more": more})

    def _open_conversation(self, request: Received) -> Scripted:
        agent_id = request.query["agent_id"]
        if agent_id not in self.engines:
            return _error(404, {"status": "not_found", "message": f"{agent_id} not found"})
        if request.path.endswith("token"):
            return _json({"token": f"webrtc-for-{agent_id}", "conversation_id": "conv_1"})
        return _json({"signed_url": f"wss://api.example/{agent_id}?signature=s"})


def _json(value: object, status: int = 200) -> Scripted:
    return Scripted(status, json.dumps(value).encode())


def _error(status: int, detail: object) -> Scripted:
    return Scripted(status, json.dumps({"detail": detail}).encode(), {"request-id": f"req_{status}"})


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = api.handle(
                Received(
                    method=self.command,
                    path=url.path,
                    query={name: values[0] for name, values in parse_qs(url.query).items()},
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=json.loads(content) if content else None,
                )
            )
            self.close_connection = not api.keep_alive
            if answer.silent:
                api.closing.wait()
            if answer.silent or answer.cut_off:
                self.close_connection = True
                return
            self.send_response(answer.status)
            headers = {
                "content-type": "application/json",
                "content-length": str(len(answer.body)),
                "connection": "keep-alive" if api.keep_alive else "close",
                **answer.headers,
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def finish(self) -> None:
            super().finish()
            api.hung_up.set()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the tests read `requests`."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for threads that are no daemons, so that no test leaves one behind


@contextmanager
def running_api(api_key: str = "sk_0123456789abcdef") -> Iterator[FakeApi]:
    """Run a fresh API on a free loopback port."""
    api = FakeApi(api_key)
    with _Server(("127.0.0.1", 0), _handler(api)) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        # With the default poll of 0.5 s every test would take that long to end.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.closing.set()
            server.shutdown()
            thread.join()
