"""The `serve()` calls of a program in a worker: several that come together are served, later ones are not."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence

from se_server.conversation.blocking import where
from se_server.errors import AppError, ConfigError
from se_server.server.config.scripts import Script, Serving

logger = logging.getLogger("se_server.server.worker")

Captors = Callable[[Sequence[Serving]], Awaitable[None]]
Leave = Callable[["AppError | ConfigError | None"], object]

# Further servers of asyncio.gather come within this many looks in a row at which the loop was not blocked; and the
# program's own servers in the same gather have failed by then, if they fail.
LOOKS, LOOK_S, LATE_S, MAX_LOOKS = 5, 0.01, 0.02, 100
LATER_LOOK_S = 0.2  # a later serve() may run on another loop than the first
AFTER_S = 10.0  # for the code after serve(), like a worker's on_shutdown; docs/run.md states this bound


class ServeCalls:
    """The `serve()` calls of a program: those of several servers come together, and end together.

    Args:
        script: the program.
        serve: serves in place of all of them.
        leave: ends the process if the program goes on too long after `serve()`, with the reason why it could not be
            served, if any; None sets no limit.

    Attributes:
        error: the reason why they could not be served.
        has_served: whether the worker was ready, or ordered to end before it was.
    """

    def __init__(self, script: Script, serve: Captors, leave: Leave | None = None) -> None:
        self._script = script
        self._serve = serve
        self._leave = leave
        self._pid = os.getpid()
        self._servings: list[Serving] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._are_all_there = False
        self._later = 0
        self._program_ended = threading.Event()
        self._of_children = mmap.mmap(-1, 1)  # shared with the processes that the program forks
        self.error: AppError | ConfigError | None = None
        self.has_served = False

    @property
    def has_begun(self) -> bool:
        """Whether the program has called `serve()`."""
        return bool(self._servings)

    def in_child(self) -> AppError | None:
        """Return the error of a program that has called `serve()` in a process that it has forked; None if not."""
        return AppError(self._in_child()) if self._of_children[0] else None

    def program_ended(self) -> None:
        """Lift the limit on the code after `serve()`."""
        self._program_ended.set()

    async def take(self, serving: Serving) -> None:
        """Serve in place of one `serve()`."""
        if os.getpid() != self._pid:
            self._of_children[0] = 1
            raise SystemExit(self._in_child())
        if self._ended.is_set():
            if self.error is None:
                logger.info("%s calls serve() again after its worker has drained: the worker ends", self._script.file)
            raise SystemExit(0)  # a program that serves in a loop would go on until it is killed
        loop = asyncio.get_running_loop()
        if self._are_all_there or loop is not (self._loop or loop):
            await self._wait_beside(serving)
            return
        self._loop = loop
        self._servings.append(serving)
        if len(self._servings) > 1:
            await self._ended.wait()
            return
        serving.is_ready = self._noting(serving.is_ready)
        try:
            await _settle(loop)
            self._are_all_there = True
            await self._serve(self._servings)
            self.has_served = True
        except (AppError, ConfigError) as error:
            self.error = error
            raise
        finally:
            self._are_all_there = True
            self._ended.set()
            if self._leave is not None and os.getpid() == self._pid:
                threading.Thread(target=self._limit, args=(self._leave,), name="se-server-after", daemon=True).start()

    def _noting(self, is_ready: Callable[[int], None]) -> Callable[[int], None]:
        def ready(port: int) -> None:
            self.has_served = True
            is_ready(port)

        return ready

    async def _wait_beside(self, serving: Serving) -> None:
        """Leave a later `serve()` waiting: its error would end the program, and with it the conversations."""
        self._later += 1
        server = serving.server
        logger.error(
            "%s calls serve() again while it serves: the server with port=%s, path=%r is not served, the others go on;"
            " se-server run takes servers that begin together on one event loop, as by asyncio.gather",
            self._script.file,
            server.port,
            server.path,
        )
        while not self._ended.is_set():  # noqa: ASYNC110  # the loop may be another one than the event's
            await asyncio.sleep(LATER_LOOK_S)

    def _limit(self, leave: Leave) -> None:
        main = threading.main_thread().ident
        if self._program_ended.wait(AFTER_S):
            return
        frame = sys._current_frames().get(main or 0)
        logger.error(
            "%s goes on %g s after its serve() has ended: the worker ends without waiting for it; it stands at %s",
            self._script.file,
            AFTER_S,
            "an unknown place" if frame is None else where(frame),
        )
        leave(self.error)

    def _in_child(self) -> str:
        return (
            f"{self._script.file} calls serve() in a process that it has forked: se-server run makes the processes"
            " itself, call serve() once, in the program's own process, and give --workers"
        )


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until the loop has run freely for a moment: then all servers of one `asyncio.gather` have begun."""
    free = 0
    for _ in range(MAX_LOOKS):
        since = loop.time()
        await asyncio.sleep(LOOK_S)
        free = free + 1 if loop.time() - since < LOOK_S + LATE_S else 0
        if free == LOOKS:
            return
