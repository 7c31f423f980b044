"""From options to a running server: sockets, pidfile, service manager, and what a reload and an upgrade do."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from se_server.errors import ConfigError
from se_server.server.config.config import Config
from se_server.server.listen.sockets import bind
from se_server.server.listen.tls import make_context
from se_server.server.listen.uds import UnixListenSocket
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import Slot
from se_server.server.shared.seats import SeatTable
from se_server.server.supervisor.children import Closable
from se_server.server.supervisor.control_socket import Desk, default_path
from se_server.server.supervisor.pidfile import PidFile
from se_server.server.supervisor.plan import Plan
from se_server.server.supervisor.recycle import RecycleLimits
from se_server.server.supervisor.supervisor import Supervisor
from se_server.server.supervisor.systemd import Notifier, adopt, take_activated
from se_server.server.supervisor.upgrade import Handover, Upgrade, begin_upgrade, start_directory
from se_server.server.worker.worker import run_worker

logger = logging.getLogger("se_server.server.launch")

# A reload keeps the sockets and the files that are there.
_FIXED = ("host", "port", "uds", "fd", "pidfile", "control_socket", "log_file")


class Terminal(Protocol):
    """What people and programs read of the server's start."""

    def ready(self, workers: int, path: str) -> None: ...

    def failed(self, reason: str, details: str) -> None: ...


def serve(
    load: Callable[[], Config],
    terminal_of: Callable[[Config, int | None], Terminal],
    log_file: LogFile | None = None,
) -> int:
    """Serve until stopped.

    Args:
        load: reads the options, now and at each reload; raises ConfigError.
        terminal_of: makes what shows the start from the options and the port, None if there is no port.
        log_file: what stderr goes to, if not to what it was.

    Returns:
        The exit code.

    Raises:
        ConfigError: an option cannot be; one sentence.
    """
    handover = Handover.take(os.environ)
    notifier = Notifier(os.environ)
    config = load()
    directory = start_directory()
    plan = _plan(config, directory, log_file)
    pidfile = None
    if config.pidfile is not None:
        pidfile = PidFile(config.pidfile, handover.pidfile if handover is not None else None)
    seats = SeatTable(None if handover is None else handover.seats)
    sockets, unix = _open_sockets(config, handover)
    if pidfile is not None and handover is None:
        pidfile.write()
    port = next((sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX), None)

    def replan() -> Plan:
        fresh = load()
        for name in _FIXED:
            if fresh.value(name) != config.value(name):
                logger.warning("%s has changed: that needs a new start, a reload keeps what is there", name)
        return _plan(fresh, directory, log_file)

    def upgrade() -> Upgrade:
        descriptor = None if pidfile is None else pidfile.fileno()
        return begin_upgrade(sockets, descriptor, seats.fileno(), directory, {**os.environ, **notifier.variables})

    desk = Desk(_desk_path(config), required=config.was_given("control_socket"))

    def reopen_log() -> str:
        if log_file is None:
            return "there is no log file to open anew: the log goes to stderr"
        if handover is not None:
            handover.pass_on(signal.SIGUSR1)
        return log_file.reopen()

    private: list[Closable] = [item for item in (pidfile, handover, log_file) if item is not None]
    supervisor = Supervisor(
        sockets,
        plan=plan,
        announcer=_Announcer(terminal_of(config, port), notifier, pidfile, handover, desk, log_file),
        replan=replan,
        begin_upgrade=upgrade,
        reopen_log=reopen_log,
        private=private,
        desk=desk,
        seats=seats,
    )
    try:
        if handover is None:
            desk.open()
        return supervisor.run()
    finally:
        desk.remove()
        if unix is not None and not supervisor.handed_over:
            unix.remove()
        if pidfile is not None:
            pidfile.remove()


def _desk_path(config: Config) -> str | None:
    if config.control_socket is None:
        return default_path(config.pidfile, os.environ)
    return None if config.control_socket == "off" else config.control_socket


def _plan(config: Config, directory: str, log_file: LogFile | None) -> Plan:
    # Before the fork, so that any worker resumes the TLS sessions of the others.
    tls = make_context(config.certfile, config.keyfile, config.ca_certs)
    if config.max_worker_rss is not None and rss_bytes_of(os.getpid()) is None:
        raise ConfigError("--max-worker-rss needs Linux's /proc to see what a worker uses: leave it out here")

    def run(listen_sockets: Sequence[socket.socket], channel: ControlChannel, slot: Slot) -> int:
        with suppress(OSError):  # a deploy may have turned it elsewhere, or removed it
            os.chdir(directory)
        return run_worker(config, listen_sockets, channel, slot, tls, log_file)

    return Plan(
        workers=config.workers,
        run_worker=run,
        drain_timeout_s=config.drain_timeout_s,
        drain_notice_s=config.drain_notice_s,
        drain_turn_grace_s=config.drain_turn_grace_s,
        reload_drain_timeout_s=config.reload_drain_timeout_s,
        hang_timeout_s=config.hang_timeout_s,
        recycling=RecycleLimits(config.max_worker_age_s, config.max_worker_rss, config.max_worker_sessions),
        waits_for_repair=config.reload,
    )


def _open_sockets(config: Config, handover: Handover | None) -> tuple[list[socket.socket], UnixListenSocket | None]:
    """Take the sockets that are open already, else open them."""
    if handover is not None:
        unix = next((sock for sock in handover.sockets if sock.family == socket.AF_UNIX), None)
        if config.uds is None or unix is None:
            return handover.sockets, None
        return handover.sockets, UnixListenSocket.adopt(config.uds, unix)
    activated = take_activated(os.environ)
    if activated or config.fd:
        given = [name for name in ("host", "port", "uds") if config.was_given(name)]
        if config.fd and given:
            raise ConfigError(f"--fd and --{given[0]} both say where to listen: leave one of them out")
        where = "--fd" if config.fd else "LISTEN_FDS"
        return adopt(config.fd or activated, where), None
    sockets = bind(config.host, config.port) if config.wants_port() else []
    if config.uds is None:
        return sockets, None
    try:
        unix_socket = UnixListenSocket(config.uds)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return [*sockets, unix_socket.socket], unix_socket


class _Announcer:
    """Tells the terminal, the service manager, and the supervisor before this one."""

    def __init__(
        self,
        terminal: Terminal,
        notifier: Notifier,
        pidfile: PidFile | None,
        handover: Handover | None,
        desk: Desk,
        log_file: LogFile | None,
    ) -> None:
        self._terminal = terminal
        self._notifier = notifier
        self._pidfile = pidfile
        self._handover = handover
        self._desk = desk
        self._log_file = log_file

    def ready(self, workers: int, path: str) -> None:
        if self._pidfile is not None:
            self._pidfile.write()
        if self._handover is not None:
            self._desk.open(replace=True)
            self._handover.tell_ready()
            self._handover.close()
        self._notifier.ready("serving")
        self._terminal.ready(workers, path)
        if self._log_file is not None:
            self._log_file.close()  # the former stderr: the server has started
            if self._log_file.has_moved():
                # While we started, the supervisor before us alone was told of it.
                os.kill(os.getpid(), signal.SIGUSR1)

    def failed(self, reason: str, details: str) -> None:
        self._terminal.failed(reason, details)

    def reloading(self) -> None:
        self._notifier.reloading()

    def reloaded(self) -> None:
        self._notifier.ready("serving")

    def handed_over(self, pid: int) -> None:
        self._notifier.handed_over(pid)

    def stopping(self) -> None:
        self._notifier.stopping()

    def alive(self) -> None:
        self._notifier.alive()

    @property
    def alive_s(self) -> float | None:
        return self._notifier.alive_s
