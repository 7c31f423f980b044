"""The watchdog: a thread that reads the worker's control channel, so that a blocked loop can be examined and ended.

It passes the supervisor's messages on to the loop, except for two: it writes stacks, which are wanted when the loop is
blocked, and it reopens the log file. When the supervisor is gone and cannot kill a worker that hangs, the watchdog does
that by the supervisor's own rule. It needs the GIL: C code that never releases it stops the watchdog, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, ControlError, Dumped, Message, Reply, Stacks
from se_server.server.shared.exit_codes import EXIT_HUNG
from se_server.server.shared.liveness import LOOKS, Silence
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.worker.debugger import is_held
from se_server.server.worker.replies import in_pages
from se_server.server.worker.stacks import stack_lines
from se_server.telemetry.log_writer import flush_logs

logger = logging.getLogger("se_server.server.guard")

UNSENT_LOOK_S = 1.0  # how often it looks for messages that the loop could not send
SEND_TIMEOUT_S = 1.0  # the supervisor reads at once; one that does not read is gone


class Watchdog:
    """Reads the control channel of this worker.

    Args:
        channel: the worker's end; the watchdog is its only reader.
        slot: the worker's slot, for its heartbeat.
        hang_timeout_s: after the supervisor has gone, the loop may stand still for this long.
        end_s: after the supervisor has gone, the worker has to end within this time.
        log_file: the file that replaces stderr, if there is one.
        waits_for_debugger: whether time in which a debugger holds the main thread does not count as a hang.
    """

    def __init__(
        self,
        channel: ControlChannel,
        slot: Slot,
        *,
        hang_timeout_s: float,
        end_s: float,
        log_file: LogFile | None = None,
        waits_for_debugger: bool = False,
    ) -> None:
        self._channel = channel
        self._slot = slot
        self._hang_timeout_s = hang_timeout_s
        self._end_s = end_s
        self._log_file = log_file
        self._look_s = hang_timeout_s / LOOKS if waits_for_debugger else None
        self._held = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._take: Callable[[Message | None], None] | None = None
        self._early: list[Message | None] = []

    def start(self) -> None:
        """Start the thread."""
        thread = threading.Thread(target=self._run, name="se-server-watchdog", daemon=True)
        thread.pydev_do_not_trace = True  # type: ignore[attr-defined]  # debugpy would hold this thread, too
        thread.start()

    def attach(self, loop: asyncio.AbstractEventLoop, take: Callable[[Message | None], None]) -> None:
        """Call `take` on the loop with every message, including earlier ones; None when the supervisor is gone."""
        with self._lock:
            self._loop, self._take = loop, take
            for message in self._early:
                self._deliver(message)

    def _deliver(self, message: Message | None) -> None:
        if self._loop is None or self._take is None:
            self._early.append(message)
            return
        try:
            self._loop.call_soon_threadsafe(self._take, message)
        except RuntimeError:  # the loop is closed: the process is about to exit
            return

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while not self._channel.ended:
            poll.modify(self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._channel.has_unsent else 0))
            poll.poll((UNSENT_LOOK_S if self._look_s is None else self._look_s) * 1000)
            if self._channel.has_unsent:
                self._channel.flush()
            if self._look_s is not None:
                self._wait_for_debugger(self._look_s)
            try:
                messages = self._channel.receive()
            except ControlError:
                logger.exception("the supervisor sent an invalid control message")
                break
            for message in messages:
                if isinstance(message, Stacks):
                    self._dump()
                    self._channel.send(Dumped(), timeout_s=SEND_TIMEOUT_S)
                elif isinstance(message, Ask) and message.what == "stacks":
                    self._reply(in_pages(message.ticket, stack_lines(self._loop)))
                elif isinstance(message, Ask) and message.what == "reopen-log":
                    problem = "" if self._log_file is None else self._log_file.reopen()
                    self._reply(in_pages(message.ticket, [problem] if problem else []))
                else:
                    with self._lock:
                        self._deliver(message)
        with self._lock:
            is_importing = self._loop is None
            self._deliver(None)
        self._end_orphan(is_importing)

    def _reply(self, pages: Iterable[Reply]) -> None:
        for page in pages:
            if not self._channel.send(page, timeout_s=SEND_TIMEOUT_S) or self._channel.has_unsent:
                break  # the supervisor does not read; `_run` sends the rest of this page when it does

    def _wait_for_debugger(self, look_s: float) -> None:
        """Beat in the place of the loop while a debugger holds it."""
        now_ns = time.monotonic_ns()
        if not self._slot.heartbeat_ns or now_ns - self._slot.heartbeat_ns < look_s * 1e9:
            return
        held = is_held(threading.main_thread().ident or 0)
        if held:
            self._slot.heartbeat_ns = now_ns
            if not self._held:
                logger.warning("a debugger holds the event loop: the hang timeout does not count meanwhile")
        self._held = held

    def _dump(self) -> None:
        for line in stack_lines(self._loop):
            logger.error("%s", line)
        flush_logs()  # the supervisor kills the process as soon as it knows that they are written

    def _end_orphan(self, is_importing: bool) -> None:
        """Wait for the loop to end the process; end it if the loop hangs or takes too long."""
        if is_importing:
            os._exit(EXIT_HUNG)  # no conversation and no user code needs an orderly end
        silence = Silence(os.getpid(), self._hang_timeout_s, without=threading.get_native_id())
        deadline = time.monotonic() + self._end_s
        while (now := time.monotonic()) < deadline:
            if self._slot.state != State.STOPPED and silence.is_hung(self._slot.heartbeat_ns, now):
                logger.error(
                    "the event loop stands still for %g s, and the supervisor is gone: ending", silence.silent_s
                )
                self._dump()
                os._exit(EXIT_HUNG)
            time.sleep(silence.look_s)
        logger.error("the worker did not end in time, and the supervisor is gone: ending")
        flush_logs()
        os._exit(EXIT_HUNG)
