"""The application of the playground: the page, its stream of events, and what the page asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from se_server.errors import CallerError
from se_server.playground.access import TokenPath
from se_server.playground.choices import MAX_WORDS, options_of
from se_server.playground.hub import Hub, HubFull
from se_server.playground.server_side import ServerSide
from se_server.playground.switches import habits_of, presets, switches
from se_server.playground.talk import Talk
from se_server.server.observer.access import App
from se_server.server.observer.web import PageFiles, Refused, file_response, json_response, problem, read_json
from se_server.simulator.exporting import as_script, as_test

MAX_BODY_BYTES = 128 * 1024
MAX_NAME = 64
_ACTIONS = ("again", "ping", "reconnect", "drop", "close")


Answer = Callable[[Request], Awaitable[Response]]


class Playground:
    """Answers the requests of the page.

    Args:
        hub: the streams and the conversations.
        server: the server that conversations are held with.
    """

    def __init__(self, hub: Hub, server: ServerSide) -> None:
        self._hub = hub
        self._server = server

    def app(self, token: str) -> App:
        """Return the ASGI application, below a path with this token."""
        routes = [
            Route("/events", self._events),
            Route("/api/about", self._about),
            *(
                Route(path, _answered(method), methods=["POST"])
                for path, method in (
                    ("/api/talks/{key}", self._begin),
                    ("/api/talks/{key}/say", self._say),
                    ("/api/talks/{key}/cut", self._cut),
                    ("/api/talks/{key}/habits", self._habits),
                    ("/api/talks/{key}/act/{what}", self._act),
                    ("/api/talks/{key}/end", self._end),
                )
            ),
            Route("/api/talks/{key}/conversation.toml", _answered(self._script)),
            Route("/api/talks/{key}/conversation.jsonl", _answered(self._recording)),
            Route("/api/talks/{key}/test_conversation.py", _answered(self._test)),
            *PageFiles("se_server.playground").routes(),
        ]
        return TokenPath(Starlette(routes=routes), token)

    async def _about(self, _request: Request) -> Response:
        server = self._server
        return json_response(
            {
                "app": server.app or "the demo agent",
                "is_demo": server.app is None,
                "version": server.version,
                "url": server.url,
                "reloads": server.reloads,
                "switches": switches(),
                "presets": presets(),
            }
        )

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> Response:
        name = request.query_params.get("listener", "")
        if not name or len(name) > MAX_NAME:
            return PlainTextResponse("listener is the name of the stream\n", 400)
        try:
            stream = self._stream(name)
        except HubFull as full:
            return PlainTextResponse(f"{full}\n", 503, {"retry-after": "5"})
        return StreamingResponse(stream, media_type="text/event-stream")

    def _stream(self, name: str) -> AsyncIterator[bytes]:
        listener = self._hub.listen(name)
        listener.put({"kind": "listening", "ready": bool(self._server.url), "version": self._server.version})

        async def events() -> AsyncIterator[bytes]:
            try:
                async for data in listener.events():
                    yield data
            finally:
                self._hub.forget(name, listener)

        return events()

    # --- conversations ------------------------------------------------------------------------------------------------

    async def _begin(self, request: Request) -> Response:
        given = await read_json(request, MAX_BODY_BYTES)
        key = request.path_params["key"]
        if len(key) > MAX_NAME:
            raise Refused(400, "the key of a conversation is short")
        if not self._server.url:
            raise Refused(503, "the server has not started yet")
        name = given.get("listener")
        if not isinstance(name, str) or not self._hub.is_listening(name):
            raise Refused(409, "the stream of events has ended: the page begins again by itself")
        try:
            options = options_of(given)
        except ValueError as wrong:
            raise Refused(400, str(wrong)) from None
        try:
            self._hub.begin(name, key, options)
        except HubFull as full:
            raise Refused(503, str(full)) from None
        return json_response({"key": key})

    async def _say(self, request: Request) -> Response:
        talk, given = self._talk_of(request), await read_json(request, MAX_BODY_BYTES)
        text = given.get("text")
        if not isinstance(text, str) or not text.strip():
            raise Refused(400, "say something: the text is blank")
        if len(text) > MAX_WORDS:
            raise Refused(413, f"nobody says more than {MAX_WORDS} characters at once")
        # A lone half of a surrogate pair cannot go over the wire.
        talk.say(text.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace"), _chars(given))
        return json_response({})

    async def _cut(self, request: Request) -> Response:
        talk, given = self._talk_of(request), await read_json(request, MAX_BODY_BYTES)
        chars = _chars(given)
        if chars is None:
            raise Refused(400, "spoken_chars is the number of characters that were spoken")
        talk.cut_short(chars)
        return json_response({})

    async def _habits(self, request: Request) -> Response:
        talk, given = self._talk_of(request), await read_json(request, MAX_BODY_BYTES)
        try:
            talk.change_habits(habits_of(given))
        except ValueError as wrong:
            raise Refused(400, str(wrong)) from None
        return json_response(talk.about())

    async def _act(self, request: Request) -> Response:
        what = request.path_params["what"]
        if what not in _ACTIONS:
            raise Refused(404, f"there is no such action: use one of {', '.join(_ACTIONS)}")
        await self._talk_of(request).act(what)
        return json_response({})

    async def _end(self, request: Request) -> Response:
        self._hub.end(request.path_params["key"])
        return json_response({})

    # --- exports ------------------------------------------------------------------------------------------------------

    async def _script(self, request: Request) -> Response:
        return file_response(as_script(self._talk_of(request).held()), "conversation.toml", "application/toml")

    async def _recording(self, request: Request) -> Response:
        records = self._talk_of(request).records()
        text = await asyncio.to_thread(lambda: "".join(record.line() + "\n" for record in records))
        return file_response(text, "conversation.jsonl", "application/x-ndjson")

    async def _test(self, request: Request) -> Response:
        return file_response(as_test(self._talk_of(request).held()), "test_conversation.py", "text/x-python")

    def _talk_of(self, request: Request) -> Talk:
        return self._talk(request.path_params["key"])

    def _talk(self, key: str) -> Talk:
        try:
            return self._hub.talk(key)
        except KeyError:
            raise Refused(404, "the conversation is not there any more: begin a new one") from None


def _chars(given: dict[str, Any]) -> int | None:
    chars = given.get("spoken_chars")
    if chars is None:
        return None
    if isinstance(chars, bool) or not isinstance(chars, int) or chars < 0:
        raise Refused(400, "spoken_chars is a whole number from 0 on")
    return chars


def _answered(method: Answer) -> Answer:
    """Answer with a sentence where a request is refused."""

    async def answer(request: Request) -> Response:
        try:
            return await method(request)
        except Refused as refused:
            return refused.response()
        except CallerError as error:
            return problem(409, str(error))

    return answer
