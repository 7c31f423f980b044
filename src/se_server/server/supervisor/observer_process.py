"""Keeps the observer running: the process that reads the scoreboard and serves metrics and the page for operators.

The observer is forked like a worker, and is no reason for the server to end: one that dies is replaced, after a pause
that grows while observers die young. One whose event loop stands still is killed, as a worker is. It ends after the
last worker. The supervisor owns its listen sockets, so that nobody is refused between two observers.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from se_server.server.listen.admin import AdminSocket
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, ControlError, Message
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.supervisor.forking import STACKS_SIGNAL, Closable, fork_process

logger = logging.getLogger("se_server.server.observer")

ObserverMain = Callable[["AdminSocket | None", Scoreboard, ControlChannel], int]
"""Runs in the forked child; returns the exit code of the process."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0
YOUNG_S = 5.0
END_S = 3.0
KILL_S = 1.0
HANG_S = 10.0
"""An observer that stands still this long is killed; earlier with a shorter `--hang-timeout-s`."""
STACKS_S = 1.0


class ObserverProcess:
    """Forks the observer, replaces it, and ends it.

    Args:
        admin: the sockets of the observer, owned by this object; None if it serves nothing.
        main: the observer's main function.

    Attributes:
        pid: that of the running observer; 0 if there is none.
        restarts: how many observers were replaced.
    """

    def __init__(self, admin: AdminSocket | None, main: ObserverMain) -> None:
        self.admin = admin
        self.pid = 0
        self.restarts = 0
        self._main = main
        self._channel: ControlChannel | None = None
        self._due: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._born = 0.0
        self._silence: Silence | None = None
        self._look_at = 0.0
        self._kill_at: float | None = None

    def begin(self) -> None:
        """Want an observer from now on."""
        if self._due is None and not self.pid:
            self._due = time.monotonic()

    def run_due(self, board: Scoreboard, not_inherited: Sequence[Closable], hang_timeout_s: float) -> None:
        """Fork an observer if one is due, and kill one that hangs.

        Args:
            board: the scoreboard that it reads.
            not_inherited: closed in the observer.
            hang_timeout_s: how long an event loop may stand still.
        """
        now = time.monotonic()
        self._look(board, now)
        if self._due is None or self._due > now:
            return
        self._due = None
        self._born = now
        board.observer_beat_ns = 0
        try:
            self.pid, self._channel = fork_process(partial(self._main, self.admin, board), not_inherited, "observer")
        except OSError as error:
            logger.error("cannot start the observer: %s", error.strerror)
            self._wait()
        else:
            self._silence = Silence(self.pid, min(hang_timeout_s, HANG_S))

    def _look(self, board: Scoreboard, now: float) -> None:
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_at = None
            self._signal(signal.SIGKILL)
        if self._silence is None or self._look_at > now:
            return
        self._look_at = now + self._silence.look_s
        if self._silence.is_hung(board.observer_beat_ns, now):
            logger.error(
                "the observer hangs, its event loop stood still for %.1f s: its stacks follow, then it is killed",
                self._silence.silent_s,
            )
            self._silence = None
            self._signal(STACKS_SIGNAL)
            self._kill_at = now + STACKS_S

    def _wait(self) -> None:
        """Fork the next observer after a pause."""
        self._due = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def next_due(self) -> list[float]:
        """Return the times at which an observer is forked, looked at or killed, in monotonic seconds."""
        look_at = None if self._silence is None else self._look_at
        return [time_s for time_s in (self._due, self._kill_at, look_at) if time_s is not None]

    def fileno(self) -> int:
        """Return the descriptor of its channel, readable when it has sent something; -1 without an observer."""
        return -1 if self._channel is None or self._channel.ended else self._channel.fileno()

    def receive(self) -> list[Message]:
        """Return the messages that the observer has sent."""
        if self._channel is None or self._channel.ended:
            return []
        try:
            return self._channel.receive()
        except ControlError as error:
            logger.error("the observer sent an invalid message: %s", error)
            self._channel.close()
            self._signal(signal.SIGKILL)
            return []

    def ask(self, message: Ask) -> bool:
        """Send a question; return False if nobody will answer."""
        return self._channel is not None and not self._channel.ended and self._channel.send(message)

    def reaped(self, pid: int, code: int, how: str) -> bool:
        """Take note that a child has ended; return whether it was the observer.

        Args:
            code: its exit code, or a signal's number below 0.
            how: the way in which it ended, for the log.
        """
        if pid != self.pid or not pid:
            return False
        self._forget()
        self.restarts += 1
        if time.monotonic() - self._born > YOUNG_S:
            self._pause_s = FIRST_PAUSE_S
        if code == EXIT_OK:  # a signal to the whole process group, as at the end of a container
            how, level = "was ended by SIGTERM", logging.INFO
        else:
            level = logging.ERROR
        logger.log(level, "the observer %s; the next one starts in %g s, conversations go on", how, self._pause_s)
        self._wait()
        return True

    def end(self) -> None:
        """End the observer and wait for it, at most `END_S` and `KILL_S`; then close the sockets."""
        self._due = None
        if self.pid:
            self._signal(signal.SIGTERM)
            if not self._waits_for_end():
                lost = "the observer (pid %d) is killed after %g s: recordings and spans that it had to write are lost"
                logger.error(lost, self.pid, END_S)
                self._signal(signal.SIGKILL)
            if not self._is_reaped():
                logger.error("the observer (pid %d) does not end, as on a disk that hangs; it is left alone", self.pid)
            self._forget()
        if self.admin is not None:
            self.admin.close()

    def _waits_for_end(self) -> bool:
        """Wait for the end of the channel, which is that of the process."""
        deadline = time.monotonic() + END_S
        while self.fileno() >= 0:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self], [], [], left_s)[0]:
                return False
            self.receive()
        return True

    def _is_reaped(self) -> bool:
        """Wait for the end of the process, at most `KILL_S`: not even SIGKILL ends one whose disk hangs."""
        deadline = time.monotonic() + KILL_S
        with suppress(ChildProcessError):  # it was reaped with another child
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        return True

    def _forget(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        self._silence = self._kill_at = None
        self.pid = 0

    def _signal(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close the descriptors; in a child, its copies of them."""
        if self.admin is not None:
            self.admin.close()
        if self._channel is not None:
            self._channel.close()
