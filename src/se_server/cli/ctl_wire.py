"""The wire of `se-ctl`: finds the control socket of a server, and exchanges one request and one answer."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from se_server.cli.ctl_tables import printable
from se_server.server.shared.runtime_dir import control_sockets

TIMEOUT_S = 10.0
LOOK_S = 2.0
"""Time for each of several servers to say whether it serves."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_REQUEST_BYTES = 4096
SHOWN_CHARACTERS = 128
RETRY_S = 0.05
_ADDRESS = re.compile(r"(\w+://.*|[^/]*:\d+)")
VARIABLE = "SE_SERVER_CONTROL_SOCKET"


Fits = Callable[[Mapping[str, Any]], bool]


class CtlError(Exception):
    """The command failed; the text is one sentence for the user."""


def ask(path: str, command: str, argument: object = None, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Send an order to the server and return its answer.

    Raises:
        CtlError: the server cannot be reached, does not answer in time, or refuses.
    """
    request = _request(command, argument)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                answer = json.loads(_exchange(path, request, deadline))
                break
            except (BlockingIOError, ConnectionResetError, BrokenPipeError):
                # So many programs connect that the server has no room, or has dropped this one before it could read
                # the request.
                if time.monotonic() + RETRY_S > deadline:
                    raise
                time.sleep(RETRY_S)
    except TimeoutError:
        raise CtlError(f"the server at {path} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            reason = "it is not a socket"
        raise CtlError(f"cannot reach a server at {path}: {reason}") from None
    except ValueError:
        raise CtlError(f"the program that answers at {path} is not se-server") from None
    if not isinstance(answer, dict):
        raise CtlError(f"the program that answers at {path} is not se-server")
    if "error" in answer:
        raise CtlError(printable(answer["error"]))
    return answer


def _request(command: str, argument: object) -> bytes:
    """Return the line of a request.

    Raises:
        CtlError: it is longer than the server reads.
    """
    if isinstance(argument, str):
        # The server shows ids with lone surrogates, and bytes that are not UTF-8, in this form.
        argument = argument.encode("utf-8", "backslashreplace").decode()
    line = json.dumps({"command": command, "argument": argument}, ensure_ascii=False).encode() + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise CtlError(
            f"the argument is too long for a request: give the first {SHOWN_CHARACTERS} characters of the id"
        )
    return line


def _exchange(path: str, request: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.connect(path)
        connection.sendall(request)
        return _read_line(connection, deadline)


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(1 << 16)
        data += piece
        if not piece or len(data) > MAX_ANSWER_BYTES:
            raise ValueError("incomplete line")
    return bytes(data)


def find_socket(given: str | None, environ: Mapping[str, str], fits: Fits | None = None) -> str:
    """Return the path of the server's control socket.

    Args:
        given: the path of the command line.
        environ: the environment.
        fits: says from its status whether a server may be meant. If several serve, the newest that fits is taken, and
            a line on stderr names it. Without it, nothing is taken: the command would change the server.

    Raises:
        CtlError: no path is given, and the default directories have no socket, or one of them has several servers of
            which none can be chosen.
    """
    if given is not None and given.strip() in ("", "off"):
        raise CtlError(f"--socket: {given!r} is no path: give that of the server's --control-socket, or leave it out")
    said = given or environ.get(VARIABLE)
    if said and said != "off":
        if _ADDRESS.fullmatch(said):
            source = "--socket" if given else VARIABLE
            raise CtlError(f"{source}: {said!r} is an address: give the path of the server's --control-socket")
        return said
    for found in control_sockets(environ):
        live = [path for path in found if _is_live(path)]
        if len(live) > 1:
            live = _serving(live, fits)
        if live:
            return live[0]
    raise CtlError(
        "no server found: give --socket PATH, the path that the server logs when it has started, which is that of its"
        " --control-socket or of its pidfile followed by .ctl"
    )


def _is_live(path: str) -> bool:
    """Whether a server listens at the path: a supervisor that was killed leaves its socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


def _serving(paths: list[str], fits: Fits | None) -> list[str]:
    """Return the path of the one server that takes conversations; those that drain, as after an upgrade, do not count.

    Of several, return the newest that fits; see `find_socket`.

    Raises:
        CtlError: there are several of them, or none.
    """
    lines, serving, fitting = [], [], []
    for path in paths:
        try:
            answer = ask(path, "status", timeout_s=LOOK_S)
            state, about = answer["state"], f"{answer['state']} at {', '.join(answer['addresses'])}"
            if state != "draining" and fits is not None and fits(answer):
                fitting.append((os.stat(path).st_ctime_ns, path))
        except (CtlError, LookupError, TypeError, OSError):
            state, about = "", "does not answer"
        if state != "draining":
            serving.append(path)
        lines.append(f"{path} ({printable(about)})")
    if len(serving) == 1:
        return serving
    if fitting:
        newest = max(fitting)[1]
        others = ", ".join(line for line in lines if not line.startswith(f"{newest} "))
        print(f"se-ctl: this is the newest server, {newest}; --socket chooses another: {others}", file=sys.stderr)
        return [newest]
    raise CtlError(f"several servers are running: choose one with --socket: {', '.join(lines)}")
