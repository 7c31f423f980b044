"""The control channel: messages between the supervisor and a worker, over a socket pair made before the fork.

`control_messages` has the messages, and each one's form as a line. A message that the other side does not read at once
is kept whole, and sent before the next one. The end of the stream means that the other side is gone.
"""

from __future__ import annotations

import select
import socket
import threading
import time

from se_server.server.shared.control_messages import MAX_LINE_BYTES, ControlError, Message, decode, encode

MAX_UNSENT_BYTES = 2 * MAX_LINE_BYTES
"""Bytes that wait for the other side to read. A message beyond it is refused."""
_READ_BYTES = 64 * 1024
_READS = 2 * MAX_LINE_BYTES // _READ_BYTES


class ControlChannel:
    """One end of a control channel, which owns its socket. One thread of one process reads; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._sending = threading.Lock()
        self._unsent = bytearray()
        self._unread = b""
        self._broken = self._ended = False

    @classmethod
    def pair(cls) -> tuple[ControlChannel, ControlChannel]:
        """Return both ends. After the fork, each side closes the other side's end."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor, readable when `receive` has messages; -1 after `close`."""
        return self._socket.fileno()

    @property
    def ended(self) -> bool:
        """Whether the other side is gone, so that no more messages will arrive."""
        return self._ended

    @property
    def has_unsent(self) -> bool:
        """Whether a message waits for the other side to read; `flush` sends it when the descriptor is writable."""
        return bool(self._unsent)

    def send(self, message: Message, *, timeout_s: float = 0.0) -> bool:
        """Send one message, waiting at most `timeout_s` for the other side to read.

        The rest of a message that could not be sent in this time is kept.

        Returns:
            False if the other side is gone, or so much waits for it that this message was refused.
        """
        line = encode(message)
        deadline = time.monotonic() + timeout_s
        with self._sending:
            if len(self._unsent) + len(line) > MAX_UNSENT_BYTES and not self._send_until(deadline):
                return False
            self._unsent += line
            self._send_until(deadline)
            return not self._broken

    def flush(self) -> None:
        """Send as much of the messages that wait as the other side takes now."""
        with self._sending:
            self._send_until(0.0)

    def _send_until(self, deadline: float) -> bool:
        """Send what waits; return whether all of it was sent. The caller has the lock."""
        while self._unsent:
            try:
                count = self._socket.send(self._unsent)
            except BlockingIOError:
                if not self._wait_writable(deadline - time.monotonic()):
                    return False
            except OSError:  # the other side is gone, or this end is closed
                self._broken = True
                self._unsent.clear()
                return False
            else:
                del self._unsent[:count]
        return not self._broken

    def _wait_writable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return timeout_s > 0 and bool(poll.poll(timeout_s * 1000))

    def receive(self) -> list[Message]:
        """Return the messages that have arrived, without waiting. `ended` is set when no more will follow.

        One call reads a bounded amount, so that a side that never stops writing does not block the other.

        Raises:
            ControlError: a message is invalid; the channel cannot be used any longer.
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
            messages += [message for message in map(decode, lines) if message is not None]
        return messages

    def close(self) -> None:
        """Close this end."""
        self._ended = True
        self._socket.close()
