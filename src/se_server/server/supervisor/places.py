"""The places of a server: sockets, pidfile and directory of recordings, opened by a start and tried by `--check`."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from se_server.errors import ConfigError
from se_server.server.config.config import Config
from se_server.server.config.options import BY_NAME
from se_server.server.listen.admin import AdminSocket, open_admin, open_agent_check
from se_server.server.listen.passing import MAX_SOCKETS
from se_server.server.listen.sockets import bind
from se_server.server.listen.uds import UnixListenSocket
from se_server.server.shared.recording import Recording, open_recording
from se_server.server.supervisor.control_socket import ControlSocket, default_path
from se_server.server.supervisor.pidfile import PidFile
from se_server.server.supervisor.systemd import inherit_sockets, take_activated
from se_server.server.supervisor.upgrade import Handover

logger = logging.getLogger("se_server.server.launch")

_Place = TypeVar("_Place")


class Attempt(Protocol):
    """Opens one place: a start needs it, and `--check` reports it."""

    def __call__(self, name: str, where: str, use: str, opener: Callable[[], _Place]) -> _Place | None:
        """Open a place.

        Args:
            name: its name in the report.
            where: the address or the path.
            use: the verb of its use, as after "can be".
            opener: opens it; raises ConfigError.

        Returns:
            The place; None if the server may start later without this error.
        """


def _open_now(name: str, where: str, use: str, opener: Callable[[], _Place]) -> _Place | None:
    return opener()


class Places:
    """The open places of one server.

    Args:
        config: the options.
        handover: those of the server that this one replaces.
        attempt: opens each place.
        listens: whether the listen sockets are opened, too; else `listen` opens them.

    Attributes:
        pidfile: held, not yet written; None for none.
        admin, agent_check: the sockets of the observer, and those for HAProxy; None for none.
        sockets: the listen sockets.
        unix: the file of a Unix socket among them that this server removes at its end.
        recording: the options of recordings in force.
        control_path: the path of se-ctl's socket; None for none.
        control_socket: open, unless it takes over the former server's.

    Raises:
        ConfigError: one of them cannot be opened. Those that were opened before are given back.
    """

    def __init__(
        self,
        config: Config,
        handover: Handover | None = None,
        attempt: Attempt = _open_now,
        *,
        listens: bool = True,
    ) -> None:
        self._made: list[Path] = []
        self.pidfile: PidFile | None = None
        self.admin: AdminSocket | None = None
        self.agent_check: tuple[str, list[socket.socket]] | None = None
        self.sockets: list[socket.socket] = []
        self.unix: UnixListenSocket | None = None
        self.recording: Recording = config.recording
        self.control_path = _control_path(config)
        self.control_socket = ControlSocket(self.control_path, required=config.was_given("control_socket"))
        try:
            self._open(config, handover, attempt, listens=listens)
        except ConfigError:
            if handover is None:
                self.give_back()
            raise

    def listen(self, config: Config, more: Sequence[Mapping[str, Any]]) -> None:
        """Open the listen sockets of a program.

        Args:
            config: the options, with the address of its first server.
            more: addresses of its further servers.

        Raises:
            ConfigError: an address cannot be used; none is open then.
        """
        try:
            self._listen(config, _open_now)
            _open_more(more, config, self.sockets)
            if len(self.sockets) > MAX_SOCKETS:
                raise ConfigError(
                    f"{config.program.app} asks for {len(self.sockets)} listen sockets: {MAX_SOCKETS} can be passed to"
                    " a worker, so merge some of its servers"
                )
        except ConfigError:
            for sock in self.sockets:
                sock.close()
            if self.unix is not None:
                self.unix.remove()
                self.unix = None
            raise

    def _open(self, config: Config, handover: Handover | None, attempt: Attempt, *, listens: bool) -> None:
        if handover is None:
            check_listening(config)
        path = config.program.pidfile
        if path is not None:
            former = None if handover is None else handover.pidfile
            self.pidfile = attempt("pidfile", path, "held", lambda: PidFile(path, former))
        self.admin = attempt(
            "admin",
            config.admin.admin or "",
            "listened on",
            lambda: open_admin(config.admin, None if handover is None else handover.admin),
        )
        self.agent_check = attempt(
            "agent check",
            config.admin.agent_check or "",
            "listened on",
            lambda: open_agent_check(config.admin, None if handover is None else handover.agent_check),
        )
        if handover is not None:
            self._take_over(config, handover)
        elif listens:
            self._listen(config, attempt)
        directory = config.recording.record_dir
        self._made = _missing(directory)
        opened = attempt(
            "recordings",
            directory or "",
            "written to",
            lambda: open_recording(config.recording, config.lifecycle.workers),
        )
        self.recording = opened or config.recording
        if handover is None:
            where = self.control_path if config.was_given("control_socket") else None
            attempt("control socket", where or "", "listened on", self.control_socket.open)

    def _take_over(self, config: Config, handover: Handover) -> None:
        self.sockets = handover.sockets
        unix = next((sock for sock in handover.sockets if sock.family == socket.AF_UNIX), None)
        if config.listening.uds is not None and unix is not None:
            self.unix = UnixListenSocket.adopt(config.listening.uds, unix)

    def _listen(self, config: Config, attempt: Attempt) -> None:
        listening = config.listening
        activated = take_activated(os.environ)
        if activated or listening.fd:
            source = "--fd" if listening.fd else "LISTEN_FDS"
            descriptors = listening.fd or activated
            self.sockets = attempt("sockets", source, "used", lambda: inherit_sockets(descriptors, source)) or []
            return
        if config.wants_port():
            where = f"{listening.host or 'all interfaces'}, port {listening.port}"
            opened = attempt("address", where, "listened on", lambda: bind(listening.host, listening.port))
            self.sockets = opened or []
        path = listening.uds
        if path is not None:
            group = listening.uds_group
            mode = listening.uds_mode or ("600" if group is None else "660")
            self.unix = attempt(
                "Unix socket", path, "listened on", lambda: UnixListenSocket(path, mode=int(mode, 8), group=group)
            )
            if self.unix is not None:
                self.sockets.append(self.unix.socket)

    def give_back(self) -> None:
        """Close and remove all that was opened: the server does not start."""
        self.control_socket.remove()
        checks = [] if self.agent_check is None else self.agent_check[1]
        for sock in (*self.sockets, *checks):
            sock.close()
        if self.unix is not None:
            self.unix.remove()
        if self.admin is not None:
            self.admin.close()
            self.admin.remove()
        if self.pidfile is not None:
            self.pidfile.remove()
        for directory in self._made:
            if directory.is_dir():
                directory.rmdir()


def check_listening(config: Config) -> None:
    """Check that the options of addresses go together.

    Raises:
        ConfigError: one has no effect, or two contradict each other.
    """
    alone = [name for name in ("uds-mode", "uds-group") if config.was_given(name.replace("-", "_"))]
    if alone and config.listening.uds is None:
        raise ConfigError(f"--{alone[0]} is for a Unix socket: give --uds PATH too")
    given = [name for name in ("host", "port", "uds") if config.was_given(name)]
    if config.listening.fd and given:
        raise ConfigError(f"--fd and --{given[0]} both say where to listen: leave one of them out")


def _control_path(config: Config) -> str | None:
    given = config.program.control_socket
    if given is not None:
        return None if given == "off" else given
    try:
        return default_path(config.program.pidfile, os.environ)
    except ConfigError as error:
        logger.warning("se-ctl cannot reach this server: %s: give --control-socket PATH, or off", error)
        return None


def _missing(directory: str | None) -> list[Path]:
    """Return the directories that opening one will make, the innermost first."""
    if directory is None:
        return []
    path = Path(os.path.abspath(directory))
    return [each for each in (path, *path.parents) if not each.exists()]


def _open_more(addresses: Sequence[Mapping[str, Any]], config: Config, sockets: list[socket.socket]) -> None:
    """Open the ports of a program's further servers, each once, and add them to the sockets."""
    taken = {(config.listening.host, config.listening.port)}
    for address in addresses:
        if "uds" in address:
            raise ConfigError(
                f"{config.program.app} has several servers, one of them on the Unix socket {address['uds']}: give --uds"
                " for all of them, or ports to all but the first"
            )
        place = (address.get("host"), address.get("port", BY_NAME["port"].default))
        if place[1] == 0 or place not in taken:
            taken.add(place)
            sockets += bind(*place)
