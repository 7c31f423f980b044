"""Sends the orders of operators to the supervisor, over its control socket, as `se-ctl` does."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from se_server.errors import SpeechEngineError

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
ACTIONS = ("drain", "reload", "close")
"""The orders that the page may send; `drain` without a worker drains and ends the whole server."""


class OrderRefused(SpeechEngineError):
    """The order was not carried out; the text is one sentence for the operator."""


async def order(path: str | None, command: str, argument: object) -> dict[str, Any]:
    """Send an order and return its answer.

    Args:
        path: the path of the control socket; None if the server has none.

    Raises:
        OrderRefused: the supervisor refuses it, or cannot be reached.
    """
    if path is None:
        raise OrderRefused("the server has no control socket: start it without --control-socket off")
    request = orjson.dumps({"command": command, "argument": argument}) + b"\n"
    try:
        answer = orjson.loads(await asyncio.wait_for(_exchange(path, request), TIMEOUT_S))
    except (OSError, ValueError, asyncio.TimeoutError):
        raise OrderRefused("the supervisor does not answer: try again, or use se-ctl") from None
    if not isinstance(answer, dict):
        raise OrderRefused("the program at the path of the control socket is not se-server")
    if "error" in answer:
        raise OrderRefused(str(answer["error"]))
    return answer


async def _exchange(path: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
