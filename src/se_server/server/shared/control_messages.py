"""The messages of the control channel, and each one's form as a line with one JSON object.

A worker sends `ready`, `serves`, `failed`, `draining`, `dumped`, `reply` and `stopped`, the zygote `imports`, `ready`,
`failed`, `forked` and `ended`; the supervisor sends `drain`, `stacks` and `ask`. Messages of an unknown kind are
ignored.

Messages are bounded by the side that sends them: a long reply comes in several, and texts that are too long are cut.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from se_server.errors import SpeechEngineError
from se_server.server.shared.exit_codes import EXIT_BOOT

logger = logging.getLogger("se_server.server.control")

MAX_LINE_BYTES = 1024 * 1024
MAX_TEXT = 4_000  # characters of a text in a message that would be too long


class ControlError(SpeechEngineError):
    """The other side of a control channel sent an invalid message."""


@dataclass(frozen=True)
class Ready:
    """Sent by a worker: the APP is loaded and the door is open.

    Attributes:
        path: the path of conversations; empty allows any.
        notice: one sentence for the operator, or empty.
        addresses: the URLs of a program's servers; none for an APP, which serves at the server's address.
    """

    path: str = ""
    notice: str = ""
    addresses: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Serves:
    """Sent by the first worker that runs a program: it has come to `serve()`, and waits for the listen sockets.

    Attributes:
        addresses: the options of each server that say where to listen, by name.
    """

    addresses: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """Sent by a worker: it cannot start.

    Attributes:
        reason: one sentence.
        details: the traceback of user code, or empty.
        code: the exit code of a server that cannot start for this reason.
    """

    reason: str
    details: str = ""
    code: int = EXIT_BOOT


@dataclass(frozen=True)
class Draining:
    """Sent by a worker: it takes no new conversations.

    Attributes:
        sessions: the number of conversations that still run.
    """

    sessions: int = 0


@dataclass(frozen=True)
class Dumped:
    """Sent by a worker: the stacks that `Stacks` asked for are in the log."""


@dataclass(frozen=True)
class Stopped:
    """Sent by a worker: its work is done, and the process ends now."""


@dataclass(frozen=True)
class Drain:
    """Sent by the supervisor: take no new conversations, let the running ones end, then stop.

    Of several orders, the one that ends first counts.

    Attributes:
        timeout_s: how long running conversations may take.
        notice_s: how long the worker goes on serving before that, while readiness is denied.
    """

    timeout_s: float
    notice_s: float = 0.0


@dataclass(frozen=True)
class Stacks:
    """Sent by the supervisor: write the stacks of all threads and tasks to the log."""


@dataclass(frozen=True)
class Ask:
    """Sent by the supervisor: a question or an order of an operator.

    Attributes:
        ticket: identifies the question in the reply.
        what: `calls`, `close`, `close-match`, `stacks` or `reopen-log`.
        about: the id of the conversation to close, or the beginning of it. For `close-match` the digest of the whole
            id stands before it, with a blank between.
    """

    ticket: int
    what: str
    about: str = ""


@dataclass(frozen=True)
class Reply:
    """Sent by a worker: a page of the reply to `Ask`.

    Attributes:
        ticket: that of the question.
        rows: the parts of the reply.
        left_out: the number of rows that were left out.
        more: whether further pages follow.
    """

    ticket: int
    rows: list[object] = field(default_factory=list)
    left_out: int = 0
    more: bool = False


@dataclass(frozen=True)
class Imports:
    """Sent by the zygote: it imports a module now.

    Attributes:
        what: the module, as in a sentence.
    """

    what: str = ""


@dataclass(frozen=True)
class Forked:
    """Sent by the zygote: it has forked a worker.

    Attributes:
        pid: the worker's process id; 0 if there is none.
        problem: the reason then.
    """

    pid: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Ended:
    """Sent by the zygote where the supervisor cannot inherit its workers: one of them has ended.

    Attributes:
        pid: the worker's process id.
        code: the exit code, or the negative number of the signal that killed it.
    """

    pid: int
    code: int


Message = (
    Ready | Serves | Failed | Draining | Dumped | Stopped | Drain | Stacks | Ask | Reply | Imports | Forked | Ended
)

_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Ready, Serves, Failed, Draining, Dumped, Stopped, Drain, Stacks, Ask, Reply, Imports, Forked, Ended)
}
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "list[object]": (list,),
    "bool": (bool,),
}


def encode(message: Message) -> bytes:
    """Return the line of a message, of `MAX_LINE_BYTES` at most: long texts are cut, and rows counted as left out."""
    line = _line_of(message)
    if len(line) <= MAX_LINE_BYTES:
        return line
    if isinstance(message, Reply):
        return _line_of(replace(message, rows=[], left_out=message.left_out + len(message.rows)))
    texts = {name: value for name, value in vars(message).items() if isinstance(value, str)}
    cut: dict[str, Any] = {name: value[:MAX_TEXT] for name, value in texts.items()}
    return _line_of(type(message)(**{**vars(message), **cut}))


def _line_of(message: Message) -> bytes:
    body: dict[str, object] = {"kind": type(message).__name__.lower(), **vars(message)}
    try:
        return orjson.dumps(body) + b"\n"
    except TypeError:  # a text that is not Unicode
        return orjson.dumps(sendable(body)) + b"\n"


def sendable(value: object) -> object:
    """Return a value with lone surrogates escaped: names of files and tasks may hold them, and JSON cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list | tuple):
        return [sendable(item) for item in value]
    if isinstance(value, dict):
        return {str(sendable(str(name))): sendable(item) for name, item in value.items()}
    return value if isinstance(value, int | float | None) else str(value)


def decode(line: bytes) -> Message | None:
    """Return the message of a line; None if its kind is unknown.

    Raises:
        ControlError: it is not a message.
    """
    try:
        body = orjson.loads(line)
        kind = body.pop("kind")
        message = _KINDS.get(kind)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ControlError(f"not a control message: {line[:80]!r}") from None
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
