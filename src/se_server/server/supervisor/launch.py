"""Turn options into a running server: open its sockets and files, describe its workers, and run the supervisor.

A worker starts like this: `serve` makes a `WorkerSpec`, `Rollout` puts it into a `Generation`, `Pool.fork` forks a
process, and `run_worker` serves in it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from ssl import SSLContext
from typing import Protocol

# Workers import these when they first need them: here, before they are forked, so that no caller waits for it.
import jwt  # noqa: F401

import se_server.recordings.addresses  # noqa: F401
from se_server.errors import ConfigError
from se_server.options import options_of
from se_server.server.config.config import LISTENING, Config, listening, read_addresses
from se_server.server.config.scripts import Script
from se_server.server.listen.admin import AdminSocket
from se_server.server.listen.passing import send_sockets
from se_server.server.listen.tls import make_context
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask
from se_server.server.shared.former_rings import FormerRings
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.recording import Recording
from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.shared.seats import SeatTable
from se_server.server.shared.tracing import Tracing, check_tracing
from se_server.server.supervisor.agent_check import AgentCheck
from se_server.server.supervisor.control_socket import ControlSocket
from se_server.server.supervisor.forking import Closable
from se_server.server.supervisor.observer_process import ObserverMain, ObserverProcess
from se_server.server.supervisor.pidfile import PidFile
from se_server.server.supervisor.places import Places
from se_server.server.supervisor.supervisor import Supervisor
from se_server.server.supervisor.systemd import Notifier
from se_server.server.supervisor.upgrade import Handover, Upgrade, begin_upgrade, start_directory
from se_server.server.worker.spec import WorkerSpec
from se_server.server.worker.worker import run_worker

logger = logging.getLogger("se_server.server.launch")

# A reload keeps the sockets and files that are open.
_FIXED = (
    "host",
    "port",
    "uds",
    "uds_mode",
    "uds_group",
    "fd",
    "pidfile",
    "control_socket",
    "log_file",
    "admin",
    "admin_token_file",
    *options_of(Recording),
    *options_of(Tracing),
    "agent_check",
    "pod_deletion_cost",
)


class Terminal(Protocol):
    """Shows the start of the server to people and programs."""

    def ready(self, workers: int, path: str, addresses: Sequence[str], control_socket: str | None) -> None: ...

    def failed(self, reason: str, details: str) -> None: ...


def serve(
    load: Callable[[], Config],
    terminal_of: Callable[[Config, int | None], Terminal],
    log_file: LogFile | None = None,
) -> int:
    """Serve until stopped.

    Args:
        load: reads the options, now and at each reload; raises ConfigError.
        terminal_of: makes the terminal from the options and the port; the port is None without a TCP socket.
        log_file: the file that replaces stderr, if there is one.

    Returns:
        The exit code.

    Raises:
        ConfigError: an option has a value that cannot be used; one sentence.
    """
    handover = Handover.take(os.environ)
    notifier = Notifier(os.environ)
    config = checked(load())
    script = Script.of(config.program.app)
    if handover is not None and handover.learned:
        config = listening(config, handover.learned)
    asks = script is not None and handover is None and "LISTEN_FDS" not in os.environ and not config.says_all_of_where()
    directory = start_directory()
    spec = WorkerSpec(config, run_worker, tls=tls_of(config), log_file=log_file, directory=directory)
    seats = SeatTable(None if handover is None else handover.seats)
    places = Places(config, handover, listens=not asks)
    pidfile, admin, sockets, control_socket = places.pidfile, places.admin, places.sockets, places.control_socket
    to_first, from_supervisor = socket.socketpair() if asks else (None, None)
    spec = replace(spec, listen_sockets=tuple(sockets), sockets_from=from_supervisor)
    if pidfile is not None and handover is None:
        pidfile.write()
    agent_check = None if places.agent_check is None else AgentCheck(*places.agent_check)
    recording = places.recording
    observer = None
    if admin is not None or recording.level != "off" or config.tracing.traces:
        observer = ObserverProcess(admin, _observer_main(config, recording, places.control_path, log_file))
    port = next((sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX), None)

    def learned() -> dict[str, object]:
        """Return the options of the listen sockets that the program has named."""
        return {name: config.value(name) for name in LISTENING if config.sources.get(name) == "APP"}

    def reload_spec() -> WorkerSpec:
        fresh = checked(load())
        if script is not None:  # the sockets are open where the program wanted them
            fresh = listening(fresh, learned())
        for name in _FIXED:
            if fresh.value(name) != config.value(name):
                logger.warning("%s has changed: a reload keeps the old value, restart the server to apply it", name)
        fresh = replace(fresh, tracing=config.tracing)
        return replace(spec, config=fresh, tls=tls_of(fresh))

    def open_sockets(addresses: Sequence[object]) -> WorkerSpec:
        nonlocal config, spec
        assert to_first is not None
        first, *more = read_addresses(addresses)
        complete = listening(config, first)
        try:
            places.listen(complete, [] if config.says_where() else more)
            send_sockets(to_first, places.sockets)
        finally:
            to_first.close()
            if from_supervisor is not None:
                from_supervisor.close()
        config = complete
        spec = replace(spec, config=complete, listen_sockets=tuple(places.sockets), sockets_from=None)
        return spec

    def upgrade(rings: Sequence[FormerRings]) -> Upgrade:
        descriptor = None if pidfile is None else pidfile.fileno()
        environ = {**os.environ, **notifier.variables}
        return begin_upgrade(
            *(places.sockets, descriptor, seats.fileno(), directory, environ, admin, agent_check, rings),
            learned=learned(),
            is_managed=notifier.is_managed,
            earlier=[] if handover is None else handover.running(),
        )

    def reopen_log() -> str:
        if log_file is None:
            return "there is no log file to reopen: the log goes to stderr"
        if handover is not None:
            handover.pass_on(signal.SIGUSR1)
        if observer is not None:
            observer.ask(Ask(0, "reopen-log"))
        return log_file.reopen()

    not_inherited: list[Closable] = [each for each in (pidfile, handover, log_file, to_first) if each is not None]
    supervisor = Supervisor(
        spec,
        announcer=_Announcer(terminal_of(config, port), notifier, pidfile, handover, control_socket, log_file),
        reload_spec=reload_spec,
        begin_upgrade=upgrade,
        reopen_log=reopen_log,
        not_inherited=not_inherited,
        control_socket=control_socket,
        seats=seats,
        replaces_another=handover is not None,
        former_rings=() if handover is None else handover.rings,
        observer=observer,
        agent_check=agent_check,
        recording=recording,
        open_sockets=open_sockets if asks else None,
    )
    try:
        code = supervisor.run()
        if handover is not None and not supervisor.handed_over:
            handover.wait_for_earlier()
        return code
    finally:
        control_socket.remove()
        if places.unix is not None and not supervisor.handed_over:
            places.unix.remove()
        if admin is not None and not supervisor.handed_over:
            admin.remove()
        if pidfile is not None:
            pidfile.remove()


def _observer_main(
    config: Config, recording: Recording, control_path: str | None, log_file: LogFile | None
) -> ObserverMain:
    def run(admin: AdminSocket | None, board: Scoreboard, channel: ControlChannel) -> int:
        # Imported in the child: no other process needs the web server.
        from se_server.server.observer.process import run_observer

        return run_observer(admin, board, channel, config, recording, control_path=control_path, log_file=log_file)

    return run


def checked(config: Config) -> Config:
    """Return the options in force on this machine: `--traces` may be off in the environment.

    Raises:
        ConfigError: an option needs what the machine lacks.
    """
    if config.lifecycle.max_worker_rss is not None and rss_bytes_of(os.getpid()) is None:
        raise ConfigError("--max-worker-rss reads the memory of workers from /proc, which this system lacks: remove it")
    return replace(config, tracing=check_tracing(config.tracing))


def tls_of(config: Config) -> SSLContext | None:
    """Make the context of TLS; None without a certificate.

    Raises:
        ConfigError: the certificate or the key cannot be used.
    """
    return make_context(config.listening.certfile, config.listening.keyfile, config.listening.ca_certs)


class _Announcer:
    """Reports to the terminal, to the service manager, and to the supervisor that this one replaces."""

    def __init__(
        self,
        terminal: Terminal,
        notifier: Notifier,
        pidfile: PidFile | None,
        handover: Handover | None,
        control_socket: ControlSocket,
        log_file: LogFile | None,
    ) -> None:
        self._terminal = terminal
        self._notifier = notifier
        self._pidfile = pidfile
        self._handover = handover
        self._control_socket = control_socket
        self._log_file = log_file

    def ready(self, workers: int, path: str, addresses: Sequence[str]) -> None:
        if self._pidfile is not None:
            self._pidfile.write()
        if self._handover is not None:
            self._control_socket.open(replace=True)
            self._handover.report_ready()
            self._handover.close()
        self._notifier.ready("serving")
        has_moved = self._log_file is not None and self._log_file.has_moved()
        if self._log_file is not None and has_moved:
            # The file was moved during the start, and only the previous supervisor got the signal to reopen it.
            self._log_file.reopen()
            os.kill(os.getpid(), signal.SIGUSR1)  # for the workers
        self._terminal.ready(workers, path, addresses, self._control_socket.open_path)
        if self._log_file is not None:
            self._log_file.close()  # the start is over: the former stderr is no longer needed

    def failed(self, reason: str, details: str) -> None:
        self._terminal.failed(reason, details)

    def reloading(self) -> None:
        self._notifier.reloading()

    def reloaded(self) -> None:
        self._notifier.ready("serving")

    def handed_over(self, pid: int) -> None:
        self._notifier.handed_over(pid)

    def upgrade_failed(self) -> None:
        if self._pidfile is not None:
            self._pidfile.write()  # the other one may have written its own id already
        self._control_socket.take_back()

    def stopping(self) -> None:
        self._notifier.stopping()
        if self._handover is not None:
            self._handover.stop_earlier()

    def alive(self) -> None:
        self._notifier.alive()

    @property
    def alive_s(self) -> float | None:
        return self._notifier.alive_s
