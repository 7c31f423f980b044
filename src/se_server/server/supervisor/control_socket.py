"""The control socket: the Unix socket on which `se-ctl` asks the supervisor. One connection carries one request and one
answer, each a line of JSON.

The supervisor has no event loop: it registers the descriptors in its own `poll`, and calls `take` when it wakes up.
Nothing here waits. The number of clients, the size of requests and the time of each client are bounded.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress

import orjson

from se_server.errors import ConfigError
from se_server.server.listen.uds import UnixListenSocket
from se_server.server.shared.control_messages import sendable
from se_server.server.shared.runtime_dir import PREFIX, SUFFIX, runtime_directory

logger = logging.getLogger("se_server.server.desk")

MAX_CLIENTS = 16
"""Clients beyond it are accepted, too, and take the places of those that have sent no request or read no answer."""
MAX_REQUEST_BYTES = 4096
MAX_ANSWER_BYTES = 16 * 1024 * 1024
CLIENT_S = 10.0
"""Time from a client's connection to the last byte of its answer; a client that takes longer is disconnected."""
STALL_S = 1.0
"""A client that has not read for this time loses its place when others wait."""
_BACKLOG = 128
_ACCEPTS = 64
"""Connections accepted in one round of the supervisor's loop, so that its other work goes on."""
PAUSE_S = 1.0


class Client:
    """A connection of `se-ctl`."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._read = b""
        self._unsent: memoryview | None = None
        self.due = now + CLIENT_S
        self._progress_at = now
        self.closed = False
        self.asked = False

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._socket.fileno()

    @property
    def events(self) -> int:
        """The poll events of this client."""
        if self._unsent:
            return select.POLLOUT
        return 0 if self.asked else select.POLLIN  # poll reports a hang-up even for 0

    def may_be_dropped(self, now: float) -> bool:
        """Whether the server waits for this client: for its request, or for `STALL_S` for it to read."""
        return not self.asked or (bool(self._unsent) and now - self._progress_at >= STALL_S)

    def receive(self) -> dict[str, object] | None:
        """Return the request once it is complete. An invalid request is answered with an error here."""
        try:
            data = self._socket.recv(MAX_REQUEST_BYTES + 1)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self._read += data
        line, end, _ = self._read.partition(b"\n")
        if not end and data and len(self._read) <= MAX_REQUEST_BYTES:
            return None
        self.asked = True
        if not data and not end:
            self.close()
            return None
        try:
            request = orjson.loads(line) if end and len(line) <= MAX_REQUEST_BYTES else None
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self.answer({"error": "a request is one JSON object in one line, of 4,096 bytes at most"})
            return None
        return request

    def notice_end(self) -> None:
        """Close if the client has gone before its answer is ready; otherwise poll would return at once every time."""
        try:
            if not self._socket.recv(1, socket.MSG_PEEK):
                self.close()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def answer(self, body: Mapping[str, object]) -> None:
        """Send the answer as fast as the client reads it, then close."""
        if not self.closed:
            line = _line_of(body)
            if len(line) > MAX_ANSWER_BYTES:
                line = _line_of({"error": f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB"})
            self._unsent = memoryview(line)
            self._progress_at = time.monotonic()
            self.send()

    def send(self) -> None:
        """Send as much of the answer as the socket takes."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                self._progress_at = time.monotonic()
        except BlockingIOError:
            return
        except OSError:  # the client has gone
            pass
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._unsent = None
        self._socket.close()


class ControlSocket:
    """The listening socket and its clients.

    Args:
        path: the socket's path; None opens no socket.
        required: whether a path that cannot be used is an error; otherwise a warning is logged.
    """

    def __init__(self, path: str | None, *, required: bool = False) -> None:
        self._path = path
        self._required = required
        self._listen: UnixListenSocket | None = None
        self._clients: list[Client] = []
        self._pause_until = 0.0

    @property
    def open_path(self) -> str | None:
        """The path on which it listens; None if it does not."""
        return None if self._listen is None else self._path

    def open(self, *, replace: bool = False) -> None:
        """Start to listen.

        Args:
            replace: take over the path from the previous supervisor, which still listens on it.

        Raises:
            ConfigError: the path is required and cannot be used.
        """
        if self._path is None:
            return
        place = f"{self._path}.{os.getpid()}" if replace else self._path
        try:
            self._listen = UnixListenSocket(place, backlog=_BACKLOG, option="control_socket")
            if replace:
                self._listen.move(self._path)
        except ConfigError as error:
            if self._required and not replace:
                raise
            logger.warning("se-ctl cannot reach this server: %s", error)
        except OSError as error:
            self.close()
            logger.warning("se-ctl cannot reach this server: %s", error)

    def take_back(self) -> None:
        """Listen on the path again if another supervisor, which has ended, had taken it over."""
        if self._listen is not None and not self._listen.is_at_path():
            former, self._listen = self._listen, None
            self.open(replace=True)
            former.socket.close()

    def register(self, poll: select.poll) -> None:
        """Register the descriptors that `take` serves."""
        if self._listen is not None and not self._pause_until and self._has_room():
            poll.register(self._listen.socket, select.POLLIN)
        for client in self._clients:
            poll.register(client, client.events)

    def next_due(self) -> list[float]:
        """Return the times at which clients are disconnected or accepting resumes, in monotonic seconds."""
        times = [client.due for client in self._clients]
        if self._pause_until:
            times.append(self._pause_until)
        if self._clients and not self._has_room():
            times.append(time.monotonic() + STALL_S)
        return times

    def take(self) -> list[tuple[Client, dict[str, object]]]:
        """Accept, read and write without waiting; return the requests that have arrived."""
        if self._listen is None:
            return []
        now = time.monotonic()
        if self._pause_until <= now:
            self._pause_until = 0.0
        self._accept(now)
        requests = []
        for client in self._clients:
            if client.due <= now:
                client.close()
            elif client.events == select.POLLOUT:
                client.send()
            elif client.asked:
                client.notice_end()
            else:
                request = client.receive()
                if request is not None:
                    requests.append((client, request))
        self._drop_idle(now)
        return requests

    def _has_room(self) -> bool:
        now = time.monotonic()
        return len(self._clients) < MAX_CLIENTS or any(client.may_be_dropped(now) for client in self._clients)

    def _accept(self, now: float) -> None:
        assert self._listen is not None
        if not self._has_room():
            return
        for _ in range(0 if self._pause_until else _ACCEPTS):
            try:
                connection, _ = self._listen.socket.accept()
            except BlockingIOError:
                break
            except OSError:  # there are no free descriptors; without a pause, poll would return at once every time
                self._pause_until = now + PAUSE_S
                break
            if _may_ask(connection):
                self._clients.append(Client(connection, now))
            else:
                connection.close()

    def _drop_idle(self, now: float) -> None:
        """Make room: the clients that keep the server waiting go, the oldest first."""
        self.forget_closed()
        excess = len(self._clients) - MAX_CLIENTS
        for client in [client for client in self._clients if client.may_be_dropped(now)][: max(0, excess)]:
            client.close()
        self.forget_closed()

    def forget_closed(self) -> None:
        """Remove the clients that have received their answer or have gone."""
        self._clients = [client for client in self._clients if not client.closed]

    def close(self) -> None:
        """Close the descriptors; in a worker, its copies of them."""
        if self._listen is not None:
            self._listen.socket.close()
        for client in self._clients:
            client.close()

    def remove(self) -> None:
        """Close the socket, and remove its file unless it belongs to another supervisor by now."""
        if self._listen is not None:
            self._listen.remove()
        self.close()
        self._listen = None
        self._clients = []


def _line_of(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body, default=str) + b"\n"
    except TypeError:  # a text that is not Unicode, such as the name of a file
        return orjson.dumps(sendable(dict(body))) + b"\n"


def _may_ask(connection: socket.socket) -> bool:
    """Whether the peer is this user or root. The mode of the file says the same, but not every system checks it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    with suppress(OSError):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", credentials)[1] in (0, os.geteuid())
    return False


def default_path(pidfile: str | None, environ: Mapping[str, str]) -> str:
    """Return the default path: beside the pidfile, otherwise in a directory of the user's run-time files.

    Raises:
        ConfigError: there is no pidfile, and no directory that is safe.
    """
    if pidfile is not None:
        return pidfile + SUFFIX
    return os.path.join(runtime_directory(environ), f"{PREFIX}{os.getpid()}{SUFFIX}")
