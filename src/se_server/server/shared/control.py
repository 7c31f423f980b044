"""The control channel: how the supervisor and a worker talk, over a socket pair made before the fork.

One JSON object a line. A worker says `ready`, `failed`, `draining`, `dumped`, `told` and `stopped`; the supervisor says
`drain`, `stacks` and `ask`. The end of the stream means that the other side is gone. Kinds that this version does not
know are passed over, so that an old supervisor and a new worker understand each other during an upgrade.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from dataclasses import asdict, dataclass, field, fields

import orjson

from se_server.errors import SpeechEngineError

logger = logging.getLogger("se_server.server.control")

MAX_LINE_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
_READS = 2 * MAX_LINE_BYTES // _READ_BYTES


class ControlError(SpeechEngineError):
    """The other side of a control channel wrote something that is no message."""


@dataclass(frozen=True)
class Ready:
    """Worker: the app is loaded and the door is open.

    Attributes:
        path: the only one that conversations may use; empty for any.
        notice: what the operator should know, in one sentence; or nothing.
    """

    path: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Failed:
    """Worker: it cannot start.

    Attributes:
        reason: one sentence.
        details: the traceback of user code, or nothing.
    """

    reason: str
    details: str = ""


@dataclass(frozen=True)
class Draining:
    """Worker: it takes no new sessions.

    Attributes:
        sessions: conversations that still run.
    """

    sessions: int = 0


@dataclass(frozen=True)
class Dumped:
    """Worker: the stacks that were asked for are in the log."""


@dataclass(frozen=True)
class Stopped:
    """Worker: all is done, the process ends now."""


@dataclass(frozen=True)
class Drain:
    """Supervisor: take no new sessions, let the running ones end, then stop. Said again, the new time counts.

    Attributes:
        timeout_s: how long they may take.
        notice_s: how long to go on before that, while readiness is denied already.
    """

    timeout_s: float
    notice_s: float = 0.0


@dataclass(frozen=True)
class Stacks:
    """Supervisor: write the stacks of all threads and tasks to the log."""


@dataclass(frozen=True)
class Ask:
    """Supervisor: tell something that an operator wants to know, or do something.

    Attributes:
        ticket: comes back with the answer.
        what: `calls`, `close`, `stacks` or `reopen-log`.
        about: the id of the conversation to close.
    """

    ticket: int
    what: str
    about: str = ""


@dataclass(frozen=True)
class Reply:
    """Worker: the answer.

    Attributes:
        ticket: of the question.
        rows: one for each thing that there is to tell.
        left_out: how many more there were.
    """

    ticket: int
    rows: list[object] = field(default_factory=list)
    left_out: int = 0


Message = Ready | Failed | Draining | Dumped | Stopped | Drain | Stacks | Ask | Reply

_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Ready, Failed, Draining, Dumped, Stopped, Drain, Stacks, Ask, Reply)
}
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "list[object]": (list,)}


class ControlChannel:
    """One end of a control channel; owns its socket. Belongs to one process; one thread reads, any may send."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._sending = threading.Lock()
        self._unread = b""
        self._ended = False

    @classmethod
    def pair(cls) -> tuple[ControlChannel, ControlChannel]:
        """Make both ends; after the fork each side closes the end of the other."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed; readable when `receive` has something."""
        return self._socket.fileno()

    @property
    def ended(self) -> bool:
        """Whether the other side is gone: nothing will come any more."""
        return self._ended

    def send(self, message: Message, *, timeout_s: float = 0.0) -> bool:
        """Send one message, waiting at most `timeout_s` for the other side to read.

        Returns:
            False if the other side is gone or does not read; the channel is of no further use then.
        """
        body: dict[str, object] = {"kind": type(message).__name__.lower(), **asdict(message)}
        unsent = memoryview(orjson.dumps(body) + b"\n")
        deadline = time.monotonic() + timeout_s
        with self._sending:
            while unsent:
                try:
                    unsent = unsent[self._socket.send(unsent) :]
                except BlockingIOError:
                    if not self._wait_writable(deadline - time.monotonic()):
                        return False
                except OSError:  # the other side is gone, or this end is closed
                    return False
        return True

    def _wait_writable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return timeout_s > 0 and bool(poll.poll(timeout_s * 1000))

    def receive(self) -> list[Message]:
        """Return messages that have come, without waiting. `ended` tells whether that was all.

        One call reads a bounded amount: a side that never stops writing cannot hold the other up.

        Raises:
            ControlError: what came is no message; the channel is of no further use.
        """
        messages: list[Message] = []
        for _ in range(_READS):
            if self._ended:
                break
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:  # reset by the other side's death
                data = b""
            if not data:
                self._ended = True
                break
            *lines, self._unread = (self._unread + data).split(b"\n")
            if len(self._unread) > MAX_LINE_BYTES:
                raise ControlError("a control message is too long")
            messages += [message for message in map(_decode, lines) if message is not None]
        return messages

    def close(self) -> None:
        """Close this end."""
        self._ended = True
        self._socket.close()


def _decode(line: bytes) -> Message | None:
    try:
        body = orjson.loads(line)
        kind = body.pop("kind")
        message = _KINDS.get(kind)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ControlError(f"no control message: {line[:80]!r}") from None
    if message is None:
        logger.debug("control message of unknown kind %r", kind)
        return None
    given = {item.name: body[item.name] for item in fields(message) if item.name in body}
    for item in fields(message):
        if item.name in given and not isinstance(given[item.name], _TYPES[str(item.type)]):
            raise ControlError(f"a control message with a wrong {item.name}: {line[:80]!r}")
    try:
        return message(**given)
    except TypeError:
        raise ControlError(f"incomplete control message: {line[:80]!r}") from None
