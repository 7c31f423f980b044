"""The WebSocket under a caller: picows' client, with what it leaves to its user, and with bad manners on demand."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Mapping

import picows
from picows.url import WSInvalidURL, parse_url

from se_server.errors import CallerError
from se_server.simulator.habits import Habits
from se_server.simulator.lines import Line
from se_server.simulator.wire import BINARY, TEXT, Cutter, message_frames, pong

# picows tells about every connection, and about what we turn into sentences ourselves: this logger drops it all.
_silent = logging.Logger("se_server.simulator", logging.CRITICAL + 1)


async def open_websocket(
    url: str, headers: Mapping[str, str], timeout_s: float, line: Line, habits: Habits
) -> SocketLink:
    """Connect and upgrade.

    Args:
        url: a `ws://` or `wss://` address.
        headers: further headers of the upgrade request.
        timeout_s: the longest wait for the connection, and again for the upgrade, in seconds.
        line: is told what comes, on the loop.
        habits: how the bytes go out, and how fast they are read.

    Raises:
        CallerError: with the sentence that says what to do.
    """
    try:
        parse_url(url)
    except (WSInvalidURL, ValueError):
        raise CallerError(f"{url}: this is no WebSocket address: it looks like ws://127.0.0.1:3001/ws") from None
    # Made before the connection: picows asks for it in the middle of the handshake, and types it as its base.
    link = SocketLink(line, habits)
    try:
        transport, accepted = await asyncio.wait_for(
            picows.ws_connect(
                lambda: link,
                url,
                logger_name=_silent,
                extra_headers=headers,
                max_redirects=0,
                # Only picows can give the half-open connection back: its own timeout has to be the first.
                websocket_handshake_timeout=timeout_s,
                # A pong in the middle of a frame that leaves in pieces would be read as a part of it.
                enable_auto_pong=False,
                use_aiofastnet=False,
            ),
            2 * timeout_s,
        )
    except (picows.WSError, OSError, asyncio.TimeoutError) as error:
        raise _refusal(url, error, timeout_s) from error
    # picows reports a connection that broke off during the handshake as opened, without a listener.
    if accepted is not link:
        raise CallerError(f"{url}: the server hung up during the handshake: is a WebSocket server listening there?")
    link.adopt(transport)
    return link


class SocketLink(picows.WSListener):
    """A `Link` on a real socket: puts messages together from frames, and keeps the bad manners of `habits`."""

    def __init__(self, line: Line, habits: Habits) -> None:
        super().__init__()
        self._line = line
        self._habits = habits
        self._transport: picows.WSTransport
        self._cutter: Cutter
        self._close: tuple[int | None, str] | None = None
        self._message = bytearray()
        self._is_text = True
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None

    def adopt(self, transport: picows.WSTransport) -> None:
        """Begin to watch over the connection, which is open."""
        self._watch = self._loop.create_task(self._watch_connection())

    async def wait_gone(self) -> None:
        """Wait until nothing of the connection is left. Call after `drop`, `reset`, or the end."""
        if self._watch is not None:
            await self._watch

    # --- what a conversation asks for -------------------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        if self._is_closing():
            return
        is_text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        for data in message_frames(TEXT if is_text else BINARY, payload, self._habits.fragment_bytes):
            self._cutter.put(data)

    def close(self, code: int) -> None:
        self._cutter.then(lambda: self._send_close(code))

    def drop(self) -> None:
        self._cutter.stop()
        self._transport.disconnect(graceful=False)

    def reset(self) -> None:
        self._cutter.stop()
        sock = self._transport.underlying_transport.get_extra_info("socket")
        if sock is not None:
            # Closing with unsent data thrown away is what sends RST (SO_LINGER, socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.underlying_transport.abort()

    # --- what picows asks for ---------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        # Here, and not in `adopt`: frames may be delivered before `ws_connect` returns.
        self._transport = transport
        self._cutter = Cutter(self._write, self._habits.segment_bytes)
        if self._habits.slow_read_bytes_s is not None:
            sock = transport.underlying_transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._close is not None:
            return  # nothing counts after a CLOSE, but picows delivers what came in the same read
        payload = frame.get_payload_as_bytes()
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
            self._close = (code, payload[2:].decode("utf-8", "replace"))
            # picows leaves the answer to us (RFC 6455, section 5.5.1).
            self._cutter.then(self._answer_close)
        elif kind == picows.WSMsgType.PING:
            self._cutter.put(pong(payload))
            self._line.traffic("ping")
        elif kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            if kind != picows.WSMsgType.CONTINUATION:
                self._is_text = kind == picows.WSMsgType.TEXT
            self._message += payload
            if frame.fin:
                message, self._message = bytes(self._message), bytearray()
                self._line.received(_text(message) if self._is_text else message)
        else:
            self._line.traffic("pong")
        self._read_slowly(len(payload))

    def pause_writing(self) -> None:
        """What a user says is small: let the transport buffer it."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    # --- parts ------------------------------------------------------------------------------------------------------

    def _is_closing(self) -> bool:
        return self._close is not None or self._transport.underlying_transport.is_closing()

    def _write(self, data: bytes) -> None:
        if not self._transport.underlying_transport.is_closing() and not self._transport.is_close_frame_sent:
            self._transport.underlying_transport.write(data)

    def _send_close(self, code: int) -> None:
        if not self._is_closing() and not self._transport.is_close_frame_sent:
            self._transport.send_close(picows.WSCloseCode(code))

    def _answer_close(self) -> None:
        if not self._transport.is_close_frame_sent:
            self._transport.send_close(picows.WSCloseCode.OK)
        self._transport.disconnect()

    def _read_slowly(self, size: int) -> None:
        if self._habits.slow_read_bytes_s is not None and self._close is None:
            transport = self._transport.underlying_transport
            if not transport.is_closing() and transport.is_reading():
                transport.pause_reading()
                self._loop.call_later(size / self._habits.slow_read_bytes_s, self._read_on)

    def _read_on(self) -> None:
        transport = self._transport.underlying_transport
        if not transport.is_closing():
            transport.resume_reading()

    async def _watch_connection(self) -> None:
        problem = ""
        try:
            await self._transport.wait_disconnected()
        except picows.WSProtocolError as error:
            problem = f"the server broke the WebSocket protocol: {error}"
        finally:
            self._cutter.stop()
            code, reason = self._close or (None, problem)
            self._line.gone(code, reason, is_clean=self._close is not None)


def _text(message: bytes) -> str | bytes:
    """Return the text of a TEXT message, or the bytes of one that is not UTF-8 for the model to tell of."""
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message


_STATUS_SENTENCES = {
    401: "the token was refused (401): use the API key that the server was started with",
    404: "there are no conversations at this path (404): use the server's --path in the address",
    503: "the server takes no conversations now (503): it is full or shutting down, try again later",
}


def _refusal(url: str, error: Exception, timeout_s: float) -> CallerError:
    """Turn what went wrong while connecting into one sentence that names the way out."""
    if isinstance(error, picows.WSHandshakeError) and error.response is not None:
        status = int(error.response.status)
        if status != 101:
            sentence = _STATUS_SENTENCES.get(
                status,
                f"the answer was HTTP {status} instead of a WebSocket: is this a Speech Engine server's address?",
            )
            return CallerError(f"{url}: {sentence}", status=status)
    # Order matters: TimeoutError and ssl.SSLError are OSErrors, too.
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        sentence = f"no WebSocket within {timeout_s:g} s: check host and port, or a proxy that holds upgrades back"
    elif isinstance(error, ssl.SSLCertVerificationError):
        sentence = f"the server's certificate is not trusted ({error.verify_message}): use the name it was issued for"
    elif isinstance(error, ssl.SSLError) or (url.startswith("wss:") and isinstance(error, ConnectionResetError)):
        sentence = "no TLS is spoken there: use ws:// in the address, or put a TLS proxy before the server"
    elif isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        sentence = "nothing listens there: start se-server first, or check host and port"
    elif isinstance(error, OSError):
        sentence = f"cannot connect ({error.strerror or error}): check host and port"
    else:
        sentence = f"no WebSocket handshake ({error}): is this a Speech Engine server's address?"
    return CallerError(f"{url}: {sentence}")
