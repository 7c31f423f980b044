"""The desk: the Unix socket where `se-ctl` asks the supervisor. One request a connection, one JSON line each way.

The supervisor has no event loop: it registers the desk's descriptors in its own poll, and calls `take` when it wakes
up. Nothing here waits. Clients, their requests, their times and what is kept for them are bounded.
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

logger = logging.getLogger("se_server.server.desk")

MAX_CLIENTS = 16
MAX_REQUEST_BYTES = 4096
CLIENT_S = 10.0
"""How long a client may take, from its connection to the last byte of its answer."""
_BACKLOG = 16
PAUSE_S = 1.0


class Client:
    """One `se-ctl` that has connected."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._read = b""
        self._unsent: memoryview | None = None
        self.due = now + CLIENT_S
        self.closed = False
        self.asked = False

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._socket.fileno()

    @property
    def events(self) -> int:
        """What to poll for."""
        if self._unsent:
            return select.POLLOUT
        return 0 if self.asked else select.POLLIN  # 0 still tells of a hang-up

    def receive(self) -> dict[str, object] | None:
        """Return the request once it is whole; one that is none is answered here."""
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
        """Close if the client has gone while its answer is being made: polling would tell of it again and again."""
        try:
            if not self._socket.recv(1, socket.MSG_PEEK):
                self.close()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def answer(self, body: Mapping[str, object]) -> None:
        """Send the answer, as fast as the client reads, and close then."""
        if not self.closed:
            self._unsent = memoryview(orjson.dumps(body, default=str) + b"\n")
            self.send()

    def send(self) -> None:
        """Send what the socket takes."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it has gone
            pass
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._unsent = None
        self._socket.close()


class Desk:
    """The socket and its clients.

    Args:
        path: where the socket's file is to be; None for a desk that nobody comes to.
        required: whether it is an error if there can be none; else a warning.
    """

    def __init__(self, path: str | None, *, required: bool = False) -> None:
        self._path = path
        self._required = required
        self._listen: UnixListenSocket | None = None
        self._clients: list[Client] = []
        self._pause_until = 0.0

    def open(self, *, replace: bool = False) -> None:
        """Listen from now on.

        Args:
            replace: take the path from the supervisor before this one, which still listens on it.

        Raises:
            ConfigError: a path that was asked for cannot be used.
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

    def register(self, poll: select.poll) -> None:
        """Let `poll` wake up for what is to be done here."""
        if self._listen is not None and len(self._clients) < MAX_CLIENTS and not self._pause_until:
            poll.register(self._listen.socket, select.POLLIN)
        for client in self._clients:
            poll.register(client, client.events)

    def next_due(self) -> list[float]:
        """Return when clients are to be given up, in monotonic seconds."""
        return [*(client.due for client in self._clients), *([self._pause_until] if self._pause_until else [])]

    def take(self) -> list[tuple[Client, dict[str, object]]]:
        """Do what can be done without waiting, and return the requests that came."""
        if self._listen is None:
            return []
        now = time.monotonic()
        if self._pause_until <= now:
            self._pause_until = 0.0
        while not self._pause_until and len(self._clients) < MAX_CLIENTS:
            try:
                connection, _ = self._listen.socket.accept()
            except BlockingIOError:
                break
            except OSError:  # there are no descriptors, and polling would return at once, again and again
                self._pause_until = now + PAUSE_S
                break
            if _may_ask(connection):
                self._clients.append(Client(connection, now))
            else:
                connection.close()
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
        self.forget_closed()
        return requests

    def forget_closed(self) -> None:
        """Forget the clients that have got their answer, or have gone."""
        self._clients = [client for client in self._clients if not client.closed]

    def close(self) -> None:
        """Close the descriptors; in a worker, of its copies."""
        if self._listen is not None:
            self._listen.socket.close()
        for client in self._clients:
            client.close()

    def remove(self) -> None:
        """Close, and remove the file unless another supervisor has its own there."""
        if self._listen is not None:
            self._listen.remove()
        self.close()
        self._listen = None
        self._clients = []


def _may_ask(connection: socket.socket) -> bool:
    """Whether the peer is this user, or root: the file's mode says so, too, where the system heeds it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    with suppress(OSError):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", credentials)[1] in (0, os.geteuid())
    return False


def default_path(pidfile: str | None, environ: Mapping[str, str]) -> str | None:
    """Return where the socket is if nobody says: beside the pidfile, or where the user's run-time files are."""
    if pidfile is not None:
        return pidfile + ".ctl"
    folder = environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(folder, f"se-server-{os.getpid()}.ctl") if os.path.isabs(folder) else None
