"""The zygote: a process that has imported the libraries of the workers, and forks each worker when it is ordered to.

It is forked from the supervisor, which stays free of user code. An order is one JSON object with open descriptors:
those of the worker's control channel, of the permission to begin, and of the listen sockets. The zygote itself has no
listen socket. A worker is forked by a process between the two, which ends at once: the supervisor inherits the worker
and reaps it like those that it forks itself. Where a supervisor cannot inherit, the zygote forks and reaps the worker,
and reports its end.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import orjson

from se_server.errors import AppError, ConfigError
from se_server.forks import keep_from_children, own_fork
from se_server.server.listen.passing import MAX_SOCKETS
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ended, Forked, Imports, Ready
from se_server.server.shared.exit_codes import EXIT_OK, flush_streams
from se_server.server.shared.forked import run_and_leave
from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.worker.loading import fail
from se_server.server.worker.preloading import preload
from se_server.server.worker.randomness import find_numpy_generators, renew_random_state
from se_server.server.worker.spec import WorkerSpec
from se_server.server.worker.watchdog import SEND_TIMEOUT_S
from se_server.telemetry.log_writer import flush_logs

logger = logging.getLogger("se_server.server.zygote")

ORDER_BYTES = 4096
REAP_S = 0.1
"""Interval at which a zygote that reaps its workers looks for those that have ended."""
_PR_SET_PDEATHSIG = 1
# Libraries may have handlers for them. The zygote ends by SIGTERM and waits for its children.
_ITS_OWN = (signal.SIGTERM, signal.SIGCHLD)
_HELD_BACK = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


def run_zygote(
    spec: WorkerSpec,
    scoreboard: Scoreboard,
    orders: socket.socket,
    supervisor: int,
    inherits: bool,
    channel: ControlChannel,
) -> int:
    """Import, then fork workers until the supervisor is gone; the main function of a zygote.

    Args:
        spec: describes the workers; its listen sockets are closed here.
        scoreboard: has the slots of the workers.
        orders: where orders arrive, owned from now on.
        supervisor: the process id of the supervisor.
        inherits: whether the supervisor inherits the workers, and reaps them.
        channel: the zygote's end of its control channel.

    Returns:
        The exit code.
    """
    _end_with(supervisor)
    scoreboard.close_former_rings()
    if spec.directory is not None:
        with suppress(OSError):  # a deploy may have redirected or removed the directory
            os.chdir(spec.directory)

    def report(what: str) -> None:
        channel.send(Imports(what), timeout_s=SEND_TIMEOUT_S)

    try:
        with keep_from_children(lambda: (channel.fileno(), orders.fileno())):
            preload(spec.config, report)
    except (AppError, ConfigError) as error:
        return fail(channel, error)
    find_numpy_generators(gc.get_objects())
    # Keep memory shared with the workers: a collection would write to the page of every object.
    gc.collect()
    gc.freeze()
    kept = _Kept.take()
    channel.send(Ready(), timeout_s=SEND_TIMEOUT_S)
    while True:
        while not inherits and not select.select([orders], [], [], REAP_S)[0]:
            _reap(channel)
        order, descriptors = _receive(orders)
        if order is None:
            return EXIT_OK
        if "reopen-log" in order:
            if spec.log_file is not None:
                spec.log_file.reopen()
            channel.send(Forked(), timeout_s=SEND_TIMEOUT_S)  # an order that follows an answer comes alone
            continue
        flush_streams()
        flush_logs()
        worker = partial(_be_worker, spec, scoreboard, order, descriptors, (orders, channel), kept)
        channel.send(_fork_between(worker) if inherits else _fork(worker), timeout_s=SEND_TIMEOUT_S)
        for descriptor in descriptors:
            os.close(descriptor)


def _end_with(supervisor: int) -> None:
    """End this process when the supervisor ends, even while an import runs (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != supervisor:
        os._exit(EXIT_OK)


def _receive(orders: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Wait for an order; None if the supervisor is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES, MAX_SOCKETS + 2)
    except OSError:
        return None, []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return (orjson.loads(data) if data else None), list(descriptors)


@dataclass(frozen=True)
class _Kept:
    """The state that the zygote has changed for itself, and a worker changes back.

    Attributes:
        handlers: the handlers of libraries for signals that the zygote treats in its own way.
        mask: the signals that were blocked.
    """

    handlers: dict[signal.Signals, Any]
    mask: set[Any]

    @classmethod
    def take(cls) -> _Kept:
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in _ITS_OWN}
        return cls(handlers, signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK))

    def give_back(self) -> None:
        for number, handler in self.handlers.items():
            if handler is not None:  # a handler of C code
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


def _reap(channel: ControlChannel) -> None:
    """Report the workers that have ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            channel.send(Ended(pid, os.waitstatus_to_exitcode(status)), timeout_s=SEND_TIMEOUT_S)


def _fork(worker: Callable[[], NoReturn]) -> Forked:
    """Fork a worker, which stays a child of the zygote."""
    try:
        with own_fork():
            pid = os.fork()
    except OSError as error:
        return Forked(0, error.strerror or str(error))
    if pid == 0:
        worker()
    return Forked(pid)


def _fork_between(worker: Callable[[], NoReturn]) -> Forked:
    """Fork a worker, which the supervisor inherits."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as said:
        try:
            with own_fork():
                between = os.fork()
            if between == 0:
                _fork_and_leave(worker, reader, writer)
        except OSError as error:
            return Forked(0, error.strerror or str(error))
        finally:
            os.close(writer)
        text = said.read(200).decode(errors="replace")
        os.waitpid(between, 0)
    return Forked(int(text)) if text.isdigit() else Forked(0, text or "the process between has died")


def _fork_and_leave(worker: Callable[[], NoReturn], reader: int, writer: int) -> NoReturn:
    """Fork a worker, report its pid or why there is none, and end."""
    try:
        forked = _fork(lambda: _close_and_be(worker, reader, writer))
        os.write(writer, (str(forked.pid) if forked.pid else forked.problem).encode()[:200])
    finally:
        os._exit(0)


def _close_and_be(worker: Callable[[], NoReturn], *descriptors: int) -> NoReturn:
    for descriptor in descriptors:
        os.close(descriptor)
    worker()


def _be_worker(
    spec: WorkerSpec,
    scoreboard: Scoreboard,
    order: dict[str, Any],
    descriptors: list[int],
    own: tuple[socket.socket, ControlChannel],
    kept: _Kept,
) -> NoReturn:
    """Run as the worker of an order, in the forked process.

    Args:
        own: the sockets of the zygote, which are closed.
        kept: what the zygote has changed for itself.
    """
    permission, channel, *listening = descriptors

    def run() -> int:
        for each in own:
            each.close()
        kept.give_back()
        # The supervisor gives no permission if it has not waited for the report: the slot may be another worker's.
        may_begin = os.read(permission, 1)
        os.close(permission)
        if not may_begin:
            return EXIT_OK
        renew_random_state()
        sockets = tuple(socket.socket(fileno=descriptor) for descriptor in listening)
        for sock in sockets:
            sock.setblocking(False)
        slot = scoreboard.slots[order["slot"]]
        return spec.main(replace(spec, listen_sockets=sockets), slot, ControlChannel(socket.socket(fileno=channel)))

    run_and_leave(run, "worker")
