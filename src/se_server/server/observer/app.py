"""The application of the observer: metrics, the page, and the JSON behind it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from se_server.server.observer._timelines import PART_NAMES
from se_server.server.observer.access import App, Guard
from se_server.server.observer.history import INTERVAL_S, History
from se_server.server.observer.orders import ACTIONS, OrderRefused, order
from se_server.server.observer.overview import hour, overview, row_of
from se_server.server.observer.recordings import Recordings
from se_server.server.observer.watch import READ_S, Watch
from se_server.server.observer.web import PageFiles, Refused, json_response, problem, read_json
from se_server.telemetry.collector import registry_of
from se_server.telemetry.families import Reading

LIVE_S = 1.0
"""The interval of the page's figures."""
SCRAPE_S = 0.05
"""Scrapes within this time get the same figures."""
VERSIONS = ("0.0.1", "0.0.4", "1.0.0", "2.0.0")
"""Versions of the forms of metrics. Another one would be made, and kept, for each that a scraper invents."""
_VERSION = re.compile(r";\s*version=([^;]*)")
MAX_PAGES = 32
"""Pages that are shown live at once; further ones are answered 503."""
MAX_BODY_BYTES = 4096


class Observer:
    """Answers the requests of operators.

    Args:
        read: returns the figures of now.
        watch: knows the conversations.
        control_path: the path of the control socket, for actions; None if there is none.
    """

    def __init__(self, read: Callable[[], Reading], watch: Watch, control_path: str | None) -> None:
        self._read = read
        self._watch = watch
        self._control_path = control_path
        self._registries = {is_open: registry_of(read, is_open_metrics=is_open) for is_open in (False, True)}
        self._history = History()
        self._news = asyncio.Condition()
        self._number = 0  # of the last sample of the history
        self._pages = 0
        self._latest: tuple[float, bytes] = (0.0, b"")
        self._scraped: dict[str, tuple[float, bytes]] = {}
        self._stopping = asyncio.Event()
        self._recordings = Recordings(watch)

    def app(self, **guard: Any) -> App:
        """Return the ASGI application, behind a `Guard` with these arguments."""
        routes = [
            Route("/livez", self._livez),
            Route("/metrics", self._metrics),
            Route("/api/overview", self._overview),
            Route("/api/history", self._hour),
            Route("/api/events", self._events),
            Route("/api/turns", self._turns),
            Route("/api/conversations", self._conversations),
            Route("/api/conversations/{key}", self._conversation),
            *self._recordings.routes(),
            Route("/api/actions/{name}", self._act, methods=["POST"]),
            *PageFiles("se_server.server.observer").routes(),
        ]
        return Guard(Starlette(routes=routes), **guard)

    async def sample(self) -> None:
        """Add a sample to the history every `INTERVAL_S`, until cancelled."""
        due = time.monotonic()
        while True:
            self._watch.mark()
            if self._history.add(self._read(), time.time()) is not None:
                async with self._news:
                    self._number += 1
                    self._news.notify_all()
            due += INTERVAL_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def watch(self) -> None:
        """Read the rings every `READ_S`, until cancelled."""
        while True:
            self._watch.poll()
            await asyncio.sleep(READ_S)

    def stop(self) -> None:
        """End the streams of pages."""
        self._stopping.set()

    async def _livez(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(_known_forms(request.headers.get("accept", "")))
        now = time.monotonic()
        made_at, body = self._scraped.get(content_type, (0.0, b""))
        if now - made_at > SCRAPE_S:  # however many scrape at once
            body = encode(self._registries["openmetrics" in content_type])
            self._scraped[content_type] = now, body
        return Response(body, media_type=content_type)

    async def _overview(self, _request: Request) -> Response:
        return json_response(self._figures())

    async def _hour(self, _request: Request) -> Response:
        return json_response(hour(self._history))

    def _figures(self) -> bytes:
        """Return the JSON of now, made at most twice a second, however many pages are open."""
        now = time.monotonic()
        if now - self._latest[0] > LIVE_S / 2:
            self._latest = now, orjson.dumps(self._overview_of_now())
        return self._latest[1]

    def _overview_of_now(self) -> dict[str, Any]:
        return overview(self._read(), self._history, time.time()) | {"parts": self._watch.mean_parts()}

    async def _events(self, request: Request) -> Response:
        if self._pages >= MAX_PAGES:
            return PlainTextResponse(f"{MAX_PAGES} pages are open already\n", 503, {"retry-after": "10"})
        return StreamingResponse(self._stream(request), media_type="text/event-stream")

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the figures of now every second, and each sample of the history."""
        self._pages += 1
        seen = self._number
        try:
            while not self._stopping.is_set() and not await request.is_disconnected():
                yield b"event: now\ndata: " + self._figures() + b"\n\n"
                if self._number != seen:
                    seen = self._number
                    yield b"event: sample\ndata: " + orjson.dumps(row_of(self._history.samples[-1])) + b"\n\n"
                try:
                    await asyncio.wait_for(self._stopping.wait(), LIVE_S)
                except asyncio.TimeoutError:
                    continue
        finally:
            self._pages -= 1

    async def answer(self, what: str, about: str) -> list[object]:
        """Answer a question of `se-ctl`: `turns`, `record` or `forget`."""
        self._watch.poll()
        if what == "turns":
            return list(self._watch.slowest(int(about)))
        return [await self._recordings.answer(what, about)]

    async def _turns(self, request: Request) -> Response:
        count = request.query_params.get("slow", "20")
        if not (count.isascii() and count.isdecimal()) or len(count) > 4:
            return problem(400, "slow is the number of turns to list")
        self._watch.poll()
        return json_response({"parts": PART_NAMES, "rows": self._watch.slowest(int(count))})

    async def _conversations(self, request: Request) -> Response:
        self._watch.poll()
        return json_response({"rows": self._watch.find(request.query_params.get("find", ""))})

    async def _conversation(self, request: Request) -> Response:
        self._watch.poll()
        found = self._watch.one(request.path_params["key"])
        return problem(404, "there is no such conversation") if found is None else json_response(found)

    async def _act(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ACTIONS:
            return problem(404, f"there is no such action: use one of {', '.join(ACTIONS)}")
        try:
            argument = (await read_json(request, MAX_BODY_BYTES)).get("argument")
        except Refused as refused:
            return refused.response()
        try:
            return json_response(await order(self._control_path, name, argument))
        except OrderRefused as error:
            return problem(409, str(error))


def _known_forms(accept: str) -> str:
    """Return the forms of metrics that a scraper accepts, without those that do not exist."""
    return ",".join(form for form in accept.split(",") if set(_VERSION.findall(form)) <= set(VERSIONS))
