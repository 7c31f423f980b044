"""Upgrades: replacing the supervisor's own program without closing its listen sockets.

The running supervisor starts another one with the same command, directory and environment, from the program that is on
disk now. The new supervisor inherits the listen sockets, the lock of the pidfile, the table of seats, and a pipe on
which it reports that its workers are ready. Then the workers of the old supervisor drain. If the new supervisor ends
before that, the old one goes on unchanged.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import orjson

from se_server.errors import ConfigError
from se_server.forks import own_fork
from se_server.server.listen.admin import AdminSocket
from se_server.server.shared.former_rings import FormerRings
from se_server.server.shared.signals import WATCHED
from se_server.server.supervisor.agent_check import AgentCheck

VARIABLE = "_SE_SERVER_HANDOVER"  # without the prefix of the options: it is not an option
_READY = b"ready"


class Upgrade:
    """A supervisor that was started to take over.

    Attributes:
        pid: the pid of the other supervisor.
        is_ready: whether its workers are ready.
        has_ended: whether the process has ended; set by the caller that reaps it.
    """

    def __init__(self, pid: int, reader: int) -> None:
        self.pid = pid
        self._reader = reader
        self.is_ready = self.has_ended = False

    def fileno(self) -> int:
        """Return a descriptor that is readable when `is_settled` may have changed."""
        return self._reader

    def is_settled(self) -> bool:
        """Whether the other supervisor has become ready or has ended."""
        try:
            said = os.read(self._reader, len(_READY))
        except BlockingIOError:
            return self.has_ended
        self.is_ready = said == _READY
        return True

    def abandon(self) -> None:
        """Stop the other supervisor: this one stops, too."""
        if not self.has_ended:
            os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)


def begin_upgrade(
    sockets: Sequence[socket.socket],
    pidfile: int | None,
    seats: int,
    directory: str,
    environ: Mapping[str, str],
    admin: AdminSocket | None = None,
    agent_check: AgentCheck | None = None,
    rings: Sequence[FormerRings] = (),
) -> Upgrade:
    """Start another supervisor.

    Args:
        sockets: the listen sockets.
        pidfile: the descriptor of the locked pidfile.
        seats: the descriptor of the seat table.
        directory: the directory in which this supervisor was started.
        environ: the environment of the other supervisor.
        admin: the address of the observer.
        agent_check: the address of agent checks.
        rings: those of this supervisor and of earlier ones.

    Raises:
        ConfigError: this process cannot be replaced.
        OSError: there are too many processes or descriptors, or too little memory.
    """
    if os.getpid() == 1:
        raise ConfigError(
            "the supervisor is the first process of its container, which would end with it: replace the container"
        )
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    descriptors = [sock.fileno() for sock in sockets]
    handed = {"sockets": descriptors, "ready": writer, "pidfile": pidfile, "seats": seats}
    for_observer = [] if admin is None else [sock.fileno() for sock in admin.sockets]
    if admin is not None:
        handed |= {"admin": admin.given, "admin_sockets": for_observer}
    for_checks = [] if agent_check is None else [sock.fileno() for sock in agent_check.sockets]
    if agent_check is not None:
        handed |= {"agent_check": agent_check.given, "agent_check_sockets": for_checks}
    for_timelines = [descriptor for former in rings for descriptor in former.descriptors()]
    handed["rings"] = [former.handed() for former in rings]
    inherited = orjson.dumps(handed).decode()
    environment = {**environ, VARIABLE: inherited}
    passed = [
        *descriptors,
        *for_observer,
        *for_checks,
        *for_timelines,
        writer,
        seats,
        *([] if pidfile is None else [pidfile]),
    ]
    # A signal before exec would be queued by this program's handler and lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        with own_fork():
            pid = os.fork()
        if pid == 0:
            _exec_supervisor(passed, directory, environment)
    except OSError:
        os.close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        os.close(writer)
    return Upgrade(pid, reader)


def _exec_supervisor(passed: Sequence[int], directory: str, environment: dict[str, str]) -> NoReturn:
    """Run the other supervisor in the forked child, without returning into the frames of this one."""
    try:
        signal.set_wakeup_fd(-1)
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        with suppress(OSError):  # the directory is gone: start in the current one
            os.chdir(directory)
        os.execve(sys.executable, sys.orig_argv, environment)
    finally:
        os._exit(127)


@dataclass
class Handover:
    """The things that a supervisor inherits from the previous one.

    Attributes:
        sockets: the listen sockets.
        pidfile: the descriptor of the locked pidfile, if there is one.
        seats: the descriptor of the seat table, None if the previous version has none.
        predecessor: the process id of the previous supervisor.
        admin: the address of the observer and its sockets; None if there is none.
        agent_check: the address of agent checks and its sockets; None if there is none.
        rings: those of earlier supervisors.
    """

    sockets: list[socket.socket]
    pidfile: int | None
    seats: int | None
    _writer: int
    predecessor: int = field(default_factory=os.getppid)
    admin: tuple[str, list[socket.socket]] | None = None
    agent_check: tuple[str, list[socket.socket]] | None = None
    rings: list[FormerRings] = field(default_factory=list)

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Handover | None:
        """Return the inheritance that the environment names, or None, and remove the variable from the environment.

        Raises:
            ConfigError: the variable is malformed or names a descriptor that is not open.
        """
        text = environ.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            given = orjson.loads(text)
            sockets = [socket.socket(fileno=descriptor) for descriptor in given["sockets"]]
            pidfile, seats, writer = given["pidfile"], given.get("seats"), given["ready"]
            for_observer = [socket.socket(fileno=descriptor) for descriptor in given.get("admin_sockets", ())]
            admin = (str(given["admin"]), for_observer) if for_observer else None
            for_checks = [socket.socket(fileno=descriptor) for descriptor in given.get("agent_check_sockets", ())]
            agent_check = (str(given["agent_check"]), for_checks) if for_checks else None
            rings = [taken for one in given.get("rings", ()) if (taken := FormerRings.take(one)) is not None]
            all_sockets = (*sockets, *for_observer, *for_checks)
            for sock in all_sockets:
                sock.setblocking(False)
            for descriptor in (*(sock.fileno() for sock in all_sockets), writer, pidfile, seats):
                if descriptor is not None:
                    os.set_inheritable(descriptor, False)
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            raise ConfigError(f"{VARIABLE} is for se-server's own use: remove it from the environment") from None
        return cls(sockets, pidfile, seats, writer, admin=admin, agent_check=agent_check, rings=rings)

    def report_ready(self) -> None:
        """Report to the previous supervisor that this one serves."""
        with suppress(OSError):  # it has ended
            os.write(self._writer, _READY)

    def pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on to the previous supervisor, whose workers may still have conversations."""
        if os.getppid() == self.predecessor:  # otherwise it has ended
            os.kill(self.predecessor, number)

    def close(self) -> None:
        """Close the pipe. Workers close it, too: its end means that this supervisor has ended."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


def start_directory() -> str:
    """Return the working directory as the shell named it: a symlink stays a symlink, which a deploy may redirect."""
    here = os.getcwd()
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here
