"""Upgrades: replacing the supervisor's own program without closing its listen sockets.

The running supervisor starts another one with the same command, directory and environment, from the program that is on
disk now. The new supervisor inherits the listen sockets, the lock of the pidfile, the table of seats, and a pipe on
which it reports that its workers are ready. Then the workers of the old supervisor drain. If the new supervisor ends
before that, the old one goes on unchanged.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from se_server.errors import ConfigError
from se_server.forks import own_fork
from se_server.server.listen.admin import AdminSocket
from se_server.server.shared.former_rings import FormerRings
from se_server.server.shared.signals import WATCHED
from se_server.server.supervisor.agent_check import AgentCheck
from se_server.server.supervisor.orphans import adopting

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
    *,
    learned: Mapping[str, object] | None = None,
    is_managed: bool = False,
    earlier: Sequence[int] = (),
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
        learned: the options of the listen sockets that a program has named.
        is_managed: whether systemd manages this process, and shall be the parent of the other one.
        earlier: descriptors of earlier supervisors that run.

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
    own = _descriptor_of(os.getpid()) if is_managed else None
    supervisors = [] if own is None else [own, *earlier]
    handed: dict[str, object] = {"sockets": descriptors, "ready": writer, "pidfile": pidfile, "seats": seats}
    handed |= {"predecessor": os.getpid(), "supervisors": supervisors, "learned": dict(learned or {})}
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
        *supervisors,
        writer,
        seats,
        *([] if pidfile is None else [pidfile]),
    ]
    # A signal before exec would be queued by this program's handler and lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        pid = _fork() if own is None else _fork_beside()
        if pid == 0:
            _exec_supervisor(passed, directory, environment)
    except OSError:
        os.close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        os.close(writer)
        if own is not None:
            os.close(own)
    return Upgrade(pid, reader)


def _descriptor_of(pid: int) -> int | None:
    """Return a descriptor of a process (pidfd_open(2)); None where the system has none."""
    try:
        return os.pidfd_open(pid) if sys.platform == "linux" else None
    except (AttributeError, OSError):
        return None


def _fork() -> int:
    with own_fork():
        return os.fork()


def _fork_beside() -> int:
    """Fork a process whose parent is this one's, through a process that ends at once; return as `os.fork` does."""
    reader, writer = os.pipe()
    try:
        with adopting(False):
            between = _fork()
            if between == 0:
                pid = -1
                try:
                    pid = _fork()
                finally:
                    if pid != 0:
                        os.write(writer, str(max(pid, 0)).encode())
                        os._exit(0)
                return 0
            os.waitpid(between, 0)
        pid = int(os.read(reader, 32) or b"0")
    finally:
        os.close(reader)
        os.close(writer)
    if pid == 0:
        raise OSError("the process could not be forked")
    return pid


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
        supervisors: descriptors of the earlier supervisors, the previous one first; none unless systemd manages them.
        admin: the address of the observer and its sockets; None if there is none.
        agent_check: the address of agent checks and its sockets; None if there is none.
        rings: those of earlier supervisors.
        learned: the options of the listen sockets that a program has named.
    """

    sockets: list[socket.socket]
    pidfile: int | None
    seats: int | None
    _writer: int
    predecessor: int = field(default_factory=os.getppid)
    supervisors: list[int] = field(default_factory=list)
    admin: tuple[str, list[socket.socket]] | None = None
    agent_check: tuple[str, list[socket.socket]] | None = None
    rings: list[FormerRings] = field(default_factory=list)
    learned: dict[str, Any] = field(default_factory=dict)
    _serves: bool = False
    _stops: bool = False

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
            predecessor, supervisors = int(given.get("predecessor", os.getppid())), list(given.get("supervisors", ()))
            learned = dict(given.get("learned", {}))
            all_sockets = (*sockets, *for_observer, *for_checks)
            for sock in all_sockets:
                sock.setblocking(False)
            for descriptor in (*(sock.fileno() for sock in all_sockets), *supervisors, writer, pidfile, seats):
                if descriptor is not None:
                    os.set_inheritable(descriptor, False)
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            raise ConfigError(f"{VARIABLE} is for se-server's own use: remove it from the environment") from None
        return cls(sockets, pidfile, seats, writer, predecessor, supervisors, admin, agent_check, rings, learned)

    def report_ready(self) -> None:
        """Report to the previous supervisor that this one serves."""
        self._serves = True
        with suppress(OSError):  # it has ended
            os.write(self._writer, _READY)

    def pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on to the previous supervisor, whose workers may still have conversations."""
        if self.supervisors:
            self._signal(self.supervisors[0], number)
        elif os.getppid() == self.predecessor:  # otherwise it has ended
            os.kill(self.predecessor, number)

    def running(self) -> list[int]:
        """Return the descriptors of the earlier supervisors that run."""
        return [each for each in self.supervisors if not select.select([each], [], [], 0)[0]]

    def stop_earlier(self) -> None:
        """Order all earlier supervisors to drain as at a stop, unless this one has not served: they go on."""
        self._stops = self._serves
        for each in self.supervisors if self._serves else ():
            self._signal(each, signal.SIGTERM)

    def wait_for_earlier(self) -> None:
        """Wait for the end of the earlier supervisors that `stop_earlier` has stopped."""
        for each in self.supervisors if self._stops else ():
            select.select([each], [], [])

    @staticmethod
    def _signal(process: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)

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
