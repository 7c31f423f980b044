"""Shared by the web servers of the page for operators and of the playground: the server, files of a page, JSON."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import orjson
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from se_server.server.observer.access import App, Receive, Scope, Send
from se_server.server.observer.connections import Connection

logger = logging.getLogger("se_server.server.observer")

CLOSE_S = 1
BUG_S = 60.0
"""The interval of log lines about bugs in answers: a peer decides how often one shows."""
BODY_S = 10.0
_KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


class BugsReported:
    """Logs the exceptions of an application, one in `BUG_S`, and passes them on.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._next_s = 0.0
        self._left_out = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            raise  # the peer left before the end of its request
        except Exception:
            now = time.monotonic()
            if now < self._next_s:
                self._left_out += 1
            else:
                logger.exception(
                    "a bug of se-server's: a request was not answered; %d more of these before", self._left_out
                )
                self._next_s, self._left_out = now + BUG_S, 0
            raise


class WebServer(uvicorn.Server):
    """A web server with the limits of `Connection`, which logs nothing at the will of a peer.

    It leaves signals to its process: Ctrl-C in a terminal is for the supervisor.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        # Its lines are of requests and of the application's exceptions: a peer decides how many there are.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                BugsReported(app),
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=CLOSE_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change no handler of a signal."""
        yield


class Refused(Exception):
    """A request that is not carried out: a status, and a sentence for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def response(self) -> Response:
        """Return the answer."""
        return problem(self.status, str(self))


class PageFiles:
    """The files of a page, in the folder `page` of a package; read once.

    Args:
        package: the package's name.
    """

    def __init__(self, package: str) -> None:
        self._folder = files(package).joinpath("page")
        self._read: dict[str, bytes] = {}

    def routes(self) -> list[Route]:
        """Return the routes of the files. They match any name, so they come last."""
        return [Route("/", self._index), Route("/{name}", self._named)]

    async def _index(self, _request: Request) -> Response:
        return self._response("index.html")

    async def _named(self, request: Request) -> Response:
        return self._response(request.path_params["name"])

    def _response(self, name: str) -> Response:
        kind = _KINDS.get(name.rpartition(".")[2])
        if kind is None or name not in {entry.name for entry in self._folder.iterdir()}:
            return PlainTextResponse("there is no such page\n", 404)
        if name not in self._read:
            self._read[name] = self._folder.joinpath(name).read_bytes()
        return Response(self._read[name], media_type=kind)


async def read_json(request: Request, most_bytes: int) -> dict[str, Any]:
    """Read the JSON of a request.

    Raises:
        Refused: it is not a JSON object of at most `most_bytes`, or does not come in time.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused(415, "send JSON, with its content type application/json")
    try:
        body = await asyncio.wait_for(_body_of(request, most_bytes), BODY_S)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body of a request has to come within {BODY_S:.0f} s") from None
    if len(body) > most_bytes:
        raise Refused(413, f"the body of a request has at most {most_bytes:,} bytes")
    try:
        given = orjson.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "the body of a request is one JSON object")
    return given


async def _body_of(request: Request, most_bytes: int) -> bytes:
    """Return the body of a request, or the beginning of one that is longer."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            break
    return body


def json_response(content: object, status: int = 200) -> Response:
    """Return an answer in JSON; bytes are JSON already."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(body, status, media_type="application/json")


def problem(status: int, text: str) -> Response:
    """Return an answer with an error: one sentence."""
    return json_response({"error": text}, status)


def file_response(content: str | bytes, name: str, media_type: str) -> Response:
    """Return a file for the browser to save."""
    # Half a surrogate pair may stand in what a server sent.
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return Response(data, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})
