"""`WorkerSpec`: everything that a worker inherits from the supervisor through the fork."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext

from se_server.server.config.config import Config
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.lifecycle import Lifecycle
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.scoreboard import Slot


@dataclass(frozen=True)
class WorkerSpec:
    """Describe the workers of one generation. Made once at the start and once for each reload.

    `main(spec, slot, channel)` runs in the forked child. The slot and the control channel are all that differs from one
    worker to the next.

    Attributes:
        config: the options in force.
        main: the worker's main function, `run_worker` in production; returns the exit code of the process.
        listen_sockets: bound and listening; owned by the supervisor.
        tls: the server's certificates. Made before the fork, so that a client can resume its TLS session on any worker.
        log_file: the file that replaces stderr, if there is one.
        directory: the working directory of the worker; None keeps the supervisor's.
        sockets_from: where the first worker that runs a program receives the listen sockets, which are open only then;
            None if they are open.
    """

    config: Config
    main: WorkerMain
    listen_sockets: tuple[socket.socket, ...] = ()
    tls: SSLContext | None = None
    log_file: LogFile | None = None
    directory: str | None = None
    sockets_from: socket.socket | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """The options of the workers' lives."""
        return self.config.lifecycle


WorkerMain = Callable[[WorkerSpec, Slot, ControlChannel], int]
