"""Runs a worker's event loop through whatever user code raises, and ends forked children that come back to it."""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial

from se_server.conversation.blocking import where_raised
from se_server.forks import end_child, is_copied

logger = logging.getLogger("se_server.server.worker")


def run_through(loop: asyncio.AbstractEventLoop, worker: asyncio.Task[int]) -> int:
    """Run the loop until the worker's task has ended, whatever user code raises to leave the process."""
    while True:
        try:
            return loop.run_until_complete(worker)
        except (SystemExit, KeyboardInterrupt) as error:
            if is_copied(loop):
                end_child(error)
            if worker.done():
                raise
            # A task or a callback of user code has raised it: asyncio passes it on through the loop.
            logger.error(
                "%r was raised at %s: it ends neither the worker nor a conversation",
                error,
                where_raised(error),
                exc_info=error,
            )
        except RuntimeError:
            if worker.done() or loop.is_closed() or is_copied(loop):
                raise
            logger.error("user code has stopped the event loop with loop.stop(): it goes on")
        loop.call_soon(partial(sys.set_asyncgen_hooks, firstiter=None))  # as in `_Worker._live`


def end_with(loop: asyncio.AbstractEventLoop) -> None:
    """End this forked child when it comes back to the loop, a copy of its parent's."""
    if is_copied(loop):
        loop.call_soon(end_child)
