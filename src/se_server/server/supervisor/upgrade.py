"""Replacing the supervisor's own program without closing its listen sockets.

The supervisor in service starts another one: the same command, directory and environment, with the program that is on
disk now. The new one inherits the listen sockets, the lock of the pidfile, the table of seats, and a pipe into which it
says that its workers are ready. Then the old one's workers drain. If the new one ends before, everything goes on as it
was.
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
from se_server.server.shared.signals import WATCHED

VARIABLE = "_SE_SERVER_HANDOVER"  # not with the prefix of the options, of which it is none
_READY = b"ready"


class Upgrade:
    """A supervisor that was started to take over. Its end shows as `has_ended`, set by whoever reaps.

    Attributes:
        pid: the other supervisor's.
        is_ready: whether its workers are ready.
        has_ended: whether the process was reaped.
    """

    def __init__(self, pid: int, reader: int) -> None:
        self.pid = pid
        self._reader = reader
        self.is_ready = self.has_ended = False

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is news."""
        return self._reader

    def is_settled(self) -> bool:
        """Whether the other supervisor has become ready, or never will."""
        try:
            said = os.read(self._reader, len(_READY))
        except BlockingIOError:
            return self.has_ended
        self.is_ready = said == _READY
        return True

    def abandon(self) -> None:
        """Stop the other supervisor, which no longer has what it was started for."""
        if not self.has_ended:
            os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)


def begin_upgrade(
    sockets: Sequence[socket.socket], pidfile: int | None, seats: int, directory: str, environ: Mapping[str, str]
) -> Upgrade:
    """Start another supervisor.

    Args:
        sockets: the listen sockets.
        pidfile: the descriptor of the locked pidfile.
        seats: that of the seats.
        directory: where this supervisor was started.
        environ: what the other one finds in its environment.

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
    inherited = orjson.dumps({"sockets": descriptors, "ready": writer, "pidfile": pidfile, "seats": seats}).decode()
    environment = {**environ, VARIABLE: inherited}
    passed = [*descriptors, writer, seats, *([] if pidfile is None else [pidfile])]
    # A signal that comes before exec must not be queued for nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        pid = os.fork()
        if pid == 0:
            _be_supervisor(passed, directory, environment)
    except OSError:
        os.close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        os.close(writer)
    return Upgrade(pid, reader)


def _be_supervisor(passed: Sequence[int], directory: str, environment: dict[str, str]) -> NoReturn:
    """Be the child: never return into the old supervisor's frames."""
    try:
        signal.set_wakeup_fd(-1)
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        with suppress(OSError):  # it is gone: where we are is as good
            os.chdir(directory)
        os.execve(sys.executable, sys.orig_argv, environment)
    finally:
        os._exit(127)


@dataclass
class Handover:
    """What a supervisor has inherited from the one before it.

    Attributes:
        sockets: the listen sockets.
        pidfile: the descriptor of the locked pidfile, if there is one.
        seats: that of the seats, if its version had some to share.
        predecessor: the process id of the supervisor before this one.
    """

    sockets: list[socket.socket]
    pidfile: int | None
    seats: int | None
    _writer: int
    predecessor: int = field(default_factory=os.getppid)

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Handover | None:
        """Take over what the environment names, so that programs started later do not; None if that is nothing.

        Raises:
            ConfigError: what it names is not there.
        """
        text = environ.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            given = orjson.loads(text)
            sockets = [socket.socket(fileno=descriptor) for descriptor in given["sockets"]]
            pidfile, seats, writer = given["pidfile"], given.get("seats"), given["ready"]
            for sock in sockets:
                sock.setblocking(False)
            for descriptor in (*(sock.fileno() for sock in sockets), writer, pidfile, seats):
                if descriptor is not None:
                    os.set_inheritable(descriptor, False)
        except (ValueError, KeyError, TypeError, OSError):
            raise ConfigError(f"{VARIABLE} is for se-server's own use: remove it from the environment") from None
        return cls(sockets, pidfile, seats, writer)

    def tell_ready(self) -> None:
        """Tell the supervisor before this one that it may go."""
        with suppress(OSError):  # it is gone already
            os.write(self._writer, _READY)

    def pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on to the supervisor before this one, whose workers may still have conversations."""
        if os.getppid() == self.predecessor:  # else it has ended
            os.kill(self.predecessor, number)

    def close(self) -> None:
        """Close the pipe, also in workers: its end means that this supervisor has ended."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


def start_directory() -> str:
    """Return the working directory as the shell named it: a link that a deploy turns elsewhere stays a link."""
    here = os.getcwd()
    named = os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here
