"""Recordings for operators: `se-ctl record` and `se-ctl forget`, and the page's list, downloads and tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from se_server.errors import CallerError
from se_server.recordings.as_test import source_of
from se_server.recordings.reading import parse
from se_server.server.observer.archive import Entry, Erased
from se_server.server.observer.watch import Watch
from se_server.server.observer.web import file_response, json_response, problem

if TYPE_CHECKING:
    from se_server.server.observer._timelines import Conversation
    from se_server.server.observer.recorder import Recorder

logger = logging.getLogger("se_server.server.observer")

MAX_ROWS = 500
WAIT_S = 4.0
"""`se-ctl` is answered after this time at the latest: the supervisor waits for 5 seconds."""
BUSY = "those before it are written (a slow disk, or a slow --record-redactor)"
NO_RECORDER = "this server records nothing: start it with --record redacted --record-dir DIR"


class Recordings:
    """Answers questions about recordings.

    Args:
        watch: knows the conversations, and the recorder if there is one.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    @property
    def _recorder(self) -> Recorder | None:
        return self._watch.recorder

    async def answer(self, what: str, about: str) -> dict[str, Any]:
        """Carry out `record` or `forget` for `se-ctl`; a refusal is one sentence under `error`."""
        recorder = self._recorder
        if recorder is None:
            return {"error": NO_RECORDER}
        found = self._watch.named(about)
        names = {conversation.name for conversation in found}
        if what == "forget":
            return await self._forget(recorder, about, [one for one in found if one.name == about])
        if len(names) > 1:
            return {"error": f"{len(names)} conversations have ids that start with {about}: give more of the id"}
        if found:
            writing = asyncio.ensure_future(_write_all(recorder, found))
            try:
                paths = await asyncio.wait_for(asyncio.shield(writing), WAIT_S)
            except asyncio.TimeoutError:
                writing.add_done_callback(lambda writing: _log_late(f"record {about}", writing))
                return {"error": f"the recording will be written once {BUSY}: ask again in some seconds"}
            except OSError as error:
                return {"error": f"cannot write the recording: {error.strerror}"}
            return _answer_of(
                recorder, found[0].name or about, paths, any(not conversation.closed_us for conversation in found)
            )
        kept = [entry for entry in recorder.archive.entries() if (entry.conversation_id or "").startswith(about)]
        if len({entry.conversation_id for entry in kept}) > 1 and not any(e.conversation_id == about for e in kept):
            return {"error": f"recordings of several conversations have ids that start with {about}: give more of it"}
        kept = [entry for entry in kept if entry.conversation_id == about] or kept
        if kept:
            return _answer_of(recorder, str(kept[0].conversation_id), [entry.path for entry in kept], False)
        return {"error": f"there is no conversation {about}, and no recording of one"}

    async def _forget(self, recorder: Recorder, name: str, found: Sequence[Conversation]) -> dict[str, Any]:
        erasing = asyncio.ensure_future(recorder.forget(name, found))
        self._watch.forget(found)
        try:
            erased = await asyncio.wait_for(asyncio.shield(erasing), WAIT_S)
        except asyncio.TimeoutError:
            erasing.add_done_callback(lambda erasing: _log_late(f"forget {name}", erasing))
            return {"error": f"{name} is forgotten in memory, and its recordings will be removed once {BUSY}"}
        if erased.left:
            return {"error": _not_erased(name, erased)}
        if not erased.count and not found:
            return {"error": f"nothing is kept of a conversation {name}: forget takes the whole id"}
        return {"recordings": erased.count, "conversations": len(found)}

    # --- the page ---

    def routes(self) -> list[Route]:
        """Return the routes of the page. All of them need a token."""
        return [
            Route("/api/recordings", self._list),
            Route("/api/recordings/{name}", self._download),
            Route("/api/recordings/{name}/test", self._test),
            Route("/api/conversations/{key}/recording", self._download_kept),
            Route("/api/conversations/{key}/test", self._test_kept),
        ]

    async def _list(self, _request: Request) -> Response:
        recorder = self._recorder
        if recorder is None:
            return json_response({"level": "off", "rows": [], "left_out": 0})
        rows = [_row(entry) for entry in recorder.archive.entries()[:MAX_ROWS]]
        return json_response({"level": recorder.options.level, "rows": rows, "left_out": recorder.left_out()})

    def _entry(self, request: Request) -> Entry | None:
        recorder = self._recorder
        return None if recorder is None else recorder.archive.find(request.path_params["name"])

    async def _download(self, request: Request) -> Response:
        entry = self._entry(request)
        if entry is None:
            return problem(404, "there is no such recording")
        try:
            return file_response(entry.path.read_bytes(), entry.path.name, "application/x-ndjson")
        except OSError as error:
            return problem(409, f"the recording cannot be read: {error.strerror}")

    async def _test(self, request: Request) -> Response:
        entry = self._entry(request)
        if entry is None:
            return problem(404, "there is no such recording")
        try:
            lines = entry.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            return problem(409, f"the recording cannot be read: {getattr(error, 'strerror', None) or error}")
        return _test_response(lines, entry.path.name)

    async def _lines(self, request: Request) -> list[str] | Response:
        recorder = self._recorder
        if recorder is None:
            return problem(404, NO_RECORDER)
        self._watch.poll()
        conversation = self._watch.known(request.path_params["key"])
        if conversation is None:
            return problem(404, "there is no such conversation")
        return await recorder.lines(conversation)

    async def _download_kept(self, request: Request) -> Response:
        lines = await self._lines(request)
        if isinstance(lines, Response):
            return lines
        body = "".join(line + "\n" for line in lines).encode()
        return file_response(body, _name_of(request), "application/x-ndjson")

    async def _test_kept(self, request: Request) -> Response:
        lines = await self._lines(request)
        return lines if isinstance(lines, Response) else _test_response(lines, _name_of(request))


async def _write_all(recorder: Recorder, found: Sequence[Conversation]) -> list[Path]:
    """Write the conversations of one id: each reconnect begins another.

    Raises:
        OSError: one cannot be written.
    """
    return [await recorder.write(conversation) for conversation in found]


def _answer_of(recorder: Recorder, name: str, paths: Sequence[Path], is_open: bool) -> dict[str, Any]:
    """Return the answer for `se-ctl`: all recordings of an id, the oldest first, and the newest of them."""
    kept = {entry.path: _began_at_s(entry) for entry in recorder.archive.of(name)}
    ordered = sorted(kept or paths, key=lambda path: (kept.get(path, 0.0), path))
    return {"path": str(ordered[-1]), "paths": list(map(str, ordered)), "is_open": is_open}


def _began_at_s(entry: Entry) -> float:
    began_at_s = entry.header.get("began_at_s")
    return float(began_at_s) if isinstance(began_at_s, (int, float)) else 0.0


def _not_erased(name: str, erased: Erased) -> str:
    removed = f"{erased.count} recording{'' if erased.count == 1 else 's'} removed"
    return f"{name} is forgotten in memory ({removed}), and not everywhere: {'; '.join(erased.left)}"


def _log_late(order: str, done: asyncio.Future[Any]) -> None:
    """Log the failure of an order that `se-ctl` does not wait for any more."""
    if done.cancelled():
        return
    if (error := done.exception()) is not None:
        logger.error("%s: %s", order, error)
    elif isinstance(result := done.result(), Erased) and result.left:
        logger.error("%s: %s", order, "; ".join(result.left))


def _name_of(request: Request) -> str:
    return f"conversation-{request.path_params['key']}.jsonl"


def _test_response(lines: Sequence[str], name: str) -> Response:
    """Return the test of a recording that is downloaded beside it."""
    try:
        text = source_of(parse(lines, name), name)
    except CallerError as error:
        return problem(409, str(error))
    test = f"test_{name.removesuffix('.jsonl').replace('-', '_')}.py"
    return file_response(text.encode(), test, "text/x-python; charset=utf-8")


def _row(entry: Entry) -> dict[str, Any]:
    header = entry.header
    return {
        "name": entry.path.name,
        "id": entry.conversation_id,
        "size": entry.size,
        "written_at_s": round(entry.written_at_s, 3),
        **{name: header.get(name) for name in ("level", "began_at_s", "reasons", "cause", "code")},
    }
