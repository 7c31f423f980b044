"""The zygote of one generation, as the supervisor sees it: starts its process, has it fork workers, and replaces it.

A process that ends costs no worker. Another one is started after a pause, and until that is ready workers are forked
from the supervisor, and import by themselves.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import orjson

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import ControlError, Ended, Failed, Forked, Imports, Message, Ready
from se_server.server.shared.exit_codes import EXIT_BOOT
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import Scoreboard, Slot
from se_server.server.supervisor.forking import STACKS_SIGNAL, Closable, fork_process
from se_server.server.worker.spec import WorkerSpec
from se_server.server.worker.zygote import run_zygote

logger = logging.getLogger("se_server.server.zygote")

INHERITS_WORKERS = sys.platform == "linux"
"""Whether the supervisor is the parent of processes whose parent has ended; else the zygote reports ends of workers."""
FORK_S = 5.0
"""Time for the answer to an order to fork. A zygote that takes longer is killed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0
YOUNG_S = 5.0
STACKS_S = 1.0
KILL_S = 1.0
RSS_SHARE = 0.9
"""Workers are recycled up to a tenth before `--max-worker-rss`: those of a larger zygote would be recycled at once."""


class ZygoteGone(Exception):
    """The zygote did not fork."""


class Zygote:
    """The zygote of one generation: several processes, if the first ones die.

    Args:
        number: the number of the generation.
        spec: describes its workers.
        scoreboard: has their slots.
        not_inherited: returns what is closed in the zygote.

    Attributes:
        pid: that of the process; 0 if there is none.
        is_ready: whether it forks now.
        was_ready: whether one of its processes has been ready.
        failure: why the first process cannot become ready; None while it may.
        restarts: how many processes were replaced.
        ended: pid and exit code of workers whose ends it has reported, and nobody has taken yet.
    """

    def __init__(
        self, number: int, spec: WorkerSpec, scoreboard: Scoreboard, not_inherited: Callable[[], Sequence[Closable]]
    ) -> None:
        self.number = number
        self.pid = 0
        self.is_ready = self.was_ready = False
        self.failure: Failed | None = None
        self.restarts = 0
        self._spec = spec
        self._scoreboard = scoreboard
        self._not_inherited = not_inherited
        self._channel: ControlChannel | None = None
        self._orders: socket.socket | None = None
        self._reported: Failed | None = None
        self._doing = ""
        self._pause_s = FIRST_PAUSE_S
        self._due: float | None = time.monotonic()
        self._born = 0.0
        self._deadline: float | None = None
        self._kill_at: float | None = None
        self._must_reopen = False
        self.ended: list[tuple[int, int]] = []

    # --- its process ---

    def run_due(self) -> None:
        """Start a process if one is due, and end one whose imports take too long."""
        now = time.monotonic()
        if self._due is not None and self._due <= now:
            self._begin(now)
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_at = None
            self._signal(signal.SIGKILL)
        if self._deadline is not None and self._deadline <= now:
            self._give_up(now)

    def _begin(self, now: float) -> None:
        self._due = None
        self._born = now
        ours, theirs = socket.socketpair()
        main = partial(run_zygote, self._spec, self._scoreboard, theirs, os.getpid(), INHERITS_WORKERS)
        try:
            self.pid, self._channel = fork_process(
                main, [ours, *self._spec.listen_sockets, *self._not_inherited()], "zygote", with_threads=False
            )
        except OSError as error:
            ours.close()
            logger.error("cannot start the zygote: %s", error.strerror)
            self._wait()
        else:
            self._orders = ours
            self._reported = None
            self._must_reopen = False
            self._doing = "its start"
            self._deadline = now + self._spec.config.preload.preload_timeout_s
            logger.debug("zygote %d of generation %d imports", self.pid, self.number)
        finally:
            theirs.close()

    def _give_up(self, now: float) -> None:
        limit_s = self._spec.config.preload.preload_timeout_s
        self._reported = Failed(
            f"preloading takes longer than {limit_s:g} s, and {self._doing} has not ended, its stack is in the log:"
            " take it out of the preload, or raise --preload-timeout-s"
        )
        logger.error(
            "the zygote (pid %d) has not ended %s after %g s: its stacks follow", self.pid, self._doing, limit_s
        )
        self._deadline = None
        self._signal(STACKS_SIGNAL)
        self._kill_at = now + STACKS_S

    def receive(self) -> None:
        """Take the messages that the process has sent."""
        if self._channel is None or self._channel.ended:
            return
        try:
            messages = self._channel.receive()
        except ControlError as error:
            logger.error("the zygote sent an invalid message: %s", error)
            self._signal(signal.SIGKILL)
            return
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Imports):
            self._doing = message.what
        elif isinstance(message, Failed):
            self._reported = message
        elif isinstance(message, Ended):
            self.ended.append((message.pid, message.code))
        elif isinstance(message, Ready) and self._reported is None:
            self._take_ready()

    def _take_ready(self) -> None:
        limit, rss = self._spec.lifecycle.max_worker_rss, rss_bytes_of(self.pid)
        if limit is not None and rss is not None and rss > RSS_SHARE * limit:
            self._reported = Failed(
                f"the preloaded modules take {rss / 2**20:.0f} MiB, and --max-worker-rss {limit / 2**20:.0f} MiB would"
                " replace each worker at once: raise it, or preload less"
            )
            self._signal(signal.SIGKILL)
            return
        self._deadline = None
        self.is_ready = self.was_ready = True
        took_s = time.monotonic() - self._born
        logger.info("zygote %d is ready after %.2f s: generation %d forks from it", self.pid, took_s, self.number)
        if self._must_reopen:
            self.reopen_log()

    def _wait(self) -> None:
        self._due = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def reaped(self, pid: int, how: str) -> bool:
        """Take note that a child has ended; return whether it was this zygote.

        Args:
            how: the way in which it ended, for the log.
        """
        if not pid or pid != self.pid:
            return False
        self.receive()  # its last messages
        failure = self._reported or Failed(f"the zygote {how} at {self._doing}", code=EXIT_BOOT)
        had_started = self.is_ready
        self._forget()
        if not self.was_ready:
            self.failure = failure
            return True
        self.restarts += 1
        if time.monotonic() - self._born > YOUNG_S:
            self._pause_s = FIRST_PAUSE_S
        logger.error(
            "the zygote %s; the next one starts in %g s, and workers start without it until then",
            how if had_started else f"cannot start again: {failure.reason}",
            self._pause_s,
        )
        self._wait()
        return True

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self._due = None
        if self.pid:
            self._signal(signal.SIGKILL)
            deadline = time.monotonic() + KILL_S
            with suppress(ChildProcessError):
                while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                    time.sleep(0.001)
        self._forget()

    def _forget(self) -> None:
        self.close()
        self._channel = self._orders = None
        self._deadline = self._kill_at = None
        self.is_ready = False
        self.pid = 0

    def _signal(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close the descriptors; in a child, its copies of them."""
        for each in (self._channel, self._orders):
            if each is not None:
                each.close()

    # --- orders ---

    def fork(self, slot: Slot) -> tuple[int, ControlChannel]:
        """Have a worker forked; return its pid and the supervisor's end of its control channel.

        Raises:
            ZygoteGone: the zygote did not fork.
            OSError: it cannot: there are too many processes or descriptors, or too little memory.
        """
        ours, theirs = ControlChannel.pair()
        permitted, permission = os.pipe()
        listening = [sock.fileno() for sock in self._spec.listen_sockets]
        try:
            done = self._order({"slot": slot.index}, [permitted, theirs.fileno(), *listening])
            if done.pid <= 0:
                raise OSError(done.problem)
            os.write(permission, b".")
        except (OSError, ZygoteGone):
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(permitted)
            os.close(permission)
        return done.pid, ours

    def reopen_log(self) -> None:
        """Have the zygote reopen the log file, for the workers that it forks from now on."""
        if not self.is_ready:
            self._must_reopen = bool(self.pid)
            return
        with suppress(ZygoteGone):
            self._order({"reopen-log": True}, [])

    def _order(self, order: dict[str, object], descriptors: list[int]) -> Forked:
        assert self._orders is not None
        try:
            socket.send_fds(self._orders, [orjson.dumps(order)], descriptors)
            return self._answer()
        except (OSError, ControlError) as error:
            raise self._gone(str(error)) from None

    def _answer(self) -> Forked:
        assert self._channel is not None
        deadline = time.monotonic() + FORK_S
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                answer = None
                for message in self._channel.receive():  # the worker's end may have been reported with its start
                    if isinstance(message, Forked):
                        answer = message
                    else:
                        self._take(message)
                if answer is not None:
                    return answer
                if self._channel.ended:
                    raise self._gone("it has ended")
        raise self._gone(f"it does not answer within {FORK_S:g} s")

    def _gone(self, why: str) -> ZygoteGone:
        """Kill the process, which is reaped with the other children."""
        logger.error("the zygote (pid %d) forks no worker: %s", self.pid, why)
        self.is_ready = False
        self._signal(signal.SIGKILL)
        return ZygoteGone(why)

    # --- for the supervisor's loop ---

    def fileno(self) -> int:
        """Return the descriptor of its channel; -1 if nothing can come."""
        return -1 if self._channel is None or self._channel.ended else self._channel.fileno()

    def next_due(self) -> list[float]:
        """Return the times at which `run_due` has to run, in monotonic seconds."""
        return [time_s for time_s in (self._due, self._deadline, self._kill_at) if time_s is not None]

    def row(self) -> dict[str, object]:
        """Return what `se-ctl status` shows."""
        return {
            "pid": self.pid or None,
            "generation": self.number,
            "state": "ready" if self.is_ready else "importing" if self.pid else "down",
            "age_s": round(time.monotonic() - self._born, 1) if self.pid else None,
            "rss_bytes": rss_bytes_of(self.pid) if self.pid else None,
            "restarts": self.restarts,
        }
