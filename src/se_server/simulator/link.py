"""A `Link` on a real socket: picows' client, plus the API's bad habits on the wire."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Mapping

import picows
from picows.url import WSInvalidURL, parse_url

from se_server.address import shown
from se_server.errors import CallerError
from se_server.simulator.connection import LinkEvents
from se_server.simulator.habits import Habits
from se_server.simulator.wire import BINARY, TEXT, Cutter, message_frames, pong

# picows logs every connection, and errors that are reported as sentences here. This logger drops its records.
_silent = logging.Logger("se_server.simulator", logging.CRITICAL + 1)


async def open_websocket(
    url: str,
    headers: Mapping[str, str],
    timeout_s: float,
    events: LinkEvents,
    habits: Habits,
    ssl_context: ssl.SSLContext | None = None,
) -> SocketLink:
    """Connect and upgrade.

    Args:
        url: a `ws://` or `wss://` address.
        headers: further headers of the upgrade request.
        timeout_s: the longest wait for the connection, and again for the upgrade, in seconds.
        events: receives the link's events, on the loop.
        habits: the habits of writing and reading.
        ssl_context: how a `wss://` server is verified; by its certificate and name by default.

    Raises:
        CallerError: the connection was refused; the message says what to do.
    """
    try:
        parse_url(url)
    except (WSInvalidURL, ValueError):
        raise CallerError(f"{shown(url)}: not a WebSocket address; expected one like ws://127.0.0.1:3001/ws") from None
    # Created before the connection: picows requests the listener during the handshake, typed as its base class.
    link = SocketLink(events, habits)
    connecting = asyncio.ensure_future(
        picows.ws_connect(
            lambda: link,
            url,
            logger_name=_silent,
            extra_headers=headers,
            max_redirects=0,
            # picows' own timeout must fire first: only picows can clean up a half-open connection.
            websocket_handshake_timeout=timeout_s,
            # A pong between the pieces of a segmented frame would be read as part of that frame.
            enable_auto_pong=False,
            use_aiofastnet=False,
            ssl_context=ssl_context,
        )
    )
    # Before Python 3.12 `wait_for` loses a cancellation that comes with the connection.
    try:
        done, _ = await asyncio.wait((connecting,), timeout=2 * timeout_s)
    except asyncio.CancelledError:
        connecting.cancel()
        link.abandon()
        raise
    if not done:
        connecting.cancel()
        link.abandon()
        raise _refusal(url, asyncio.TimeoutError(), timeout_s)
    try:
        transport, accepted = connecting.result()
    except (picows.WSError, OSError, asyncio.TimeoutError) as error:
        raise _refusal(url, error, timeout_s) from error
    # picows reports a connection that broke off during the handshake as open, without a listener.
    if accepted is not link:
        why = "it may speak TLS (wss://), or expect a PROXY header"
        if url.startswith("wss:"):
            why = "it may require a certificate of its clients (--cert FILE)"
        sentence = f"the server hung up during the handshake: {why}; is a WebSocket server listening there?"
        raise CallerError(f"{shown(url)}: {sentence}")
    link.start(transport)
    return link


class SocketLink(picows.WSListener):
    """A `Link` on a real socket. It assembles messages from frames and applies the `habits` of the wire."""

    def __init__(self, events: LinkEvents, habits: Habits) -> None:
        super().__init__()
        self._events = events
        self._habits = habits
        self._transport: picows.WSTransport
        self._cutter: Cutter
        self._close: tuple[int | None, str] | None = None
        self._message = bytearray()
        self._is_text = True
        self._joined = b""  # frames that leave with the next message
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._is_connected = self._is_abandoned = False

    def start(self, transport: picows.WSTransport) -> None:
        """Start to watch the open connection for its end."""
        self._watch = self._loop.create_task(self._watch_connection())

    def abandon(self) -> None:
        """Drop the connection, now or when it opens: picows completes a handshake that nobody awaits any more."""
        self._is_abandoned = True
        if self._is_connected:
            self._transport.disconnect(graceful=False)

    def change_habits(self, habits: Habits) -> None:
        """Write and read by other habits from now on."""
        self._habits = habits
        self._cutter.change_segments(habits.segment_bytes)

    async def wait_gone(self) -> None:
        """Wait until the connection is closed. Call it after `drop`, `reset`, or the end."""
        if self._watch is not None:
            await self._watch

    # --- called by the conversation -----------------------------------------------------------------------------------

    def send(self, message: str | bytes, *, is_joined: bool = False) -> None:
        if self._is_closing():
            return
        is_text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        frames = message_frames(TEXT if is_text else BINARY, payload, self._habits.fragment_bytes)
        if is_joined or self._joined:
            self._joined += b"".join(frames)
            frames = []
            if not is_joined:
                frames, self._joined = [self._joined], b""
        for data in frames:
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
            # Closing a socket that discards its unsent data sends RST (SO_LINGER, socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.underlying_transport.abort()

    # --- called by picows ---------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        # Not in `start`: frames may be delivered before `ws_connect` returns.
        self._transport = transport
        self._is_connected = True
        if self._is_abandoned:
            transport.disconnect(graceful=False)
        self._cutter = Cutter(self._write, self._habits.segment_bytes)
        if self._habits.slow_read_bytes_s is not None:
            sock = transport.underlying_transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._close is not None:
            return  # picows delivers frames of the same read after a CLOSE; they are ignored
        payload = frame.get_payload_as_bytes()
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
            self._close = (code, payload[2:].decode("utf-8", "replace"))
            # picows leaves the answer to its user (RFC 6455, section 5.5.1).
            self._cutter.then(self._answer_close)
        elif kind == picows.WSMsgType.PING:
            self._cutter.put(pong(payload))
            self._events.traffic("ping")
        elif kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            if kind != picows.WSMsgType.CONTINUATION:
                self._is_text = kind == picows.WSMsgType.TEXT
            self._message += payload
            if frame.fin:
                message, self._message = bytes(self._message), bytearray()
                self._events.received(_text(message) if self._is_text else message)
        else:
            self._events.traffic("pong")
        self._read_slowly(len(payload))

    def pause_writing(self) -> None:
        """Do nothing: the transport buffers the user's short messages."""

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
            self._events.gone(code, reason, is_clean=self._close is not None)


def _text(message: bytes) -> str | bytes:
    """Return the text of a TEXT message, or its bytes if it is not UTF-8, which the model reports."""
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message


_STATUS_SENTENCES = {
    401: "the token was refused (401): use the API key that the server was started with",
    404: "there are no conversations at this path (404): use the server's --path in the address",
    503: "the server takes no conversations now (503): it is full or shutting down, try again later",
}


def _certificate_way_out(error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message
    if "mismatch" in why or "not valid for" in why:
        return "use the name it was issued for"
    if "expired" in why:
        return "renew it, and reload the server"
    return "name the authority that signed it (--cafile FILE, or ssl_context), or trust any certificate (--insecure)"


def _refusal(url: str, error: Exception, timeout_s: float) -> CallerError:
    """Return an error whose sentence names the failure and the way out."""
    if isinstance(error, picows.WSHandshakeError) and error.response is not None:
        status = int(error.response.status)
        if status != 101:
            sentence = _STATUS_SENTENCES.get(
                status,
                f"the answer was HTTP {status} instead of a WebSocket: is this a Speech Engine server's address?",
            )
            return CallerError(f"{shown(url)}: {sentence}", status=status)
    # Order matters: TimeoutError and ssl.SSLError are subclasses of OSError.
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        sentence = f"no WebSocket within {timeout_s:g} s: check host and port, or a proxy that holds upgrades back"
    elif isinstance(error, ssl.SSLCertVerificationError):
        sentence = f"the server's certificate is not trusted ({error.verify_message}): {_certificate_way_out(error)}"
    elif isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error.reason):
        sentence = "the server requires a certificate of its clients: show one (--cert FILE, or ssl_context)"
    elif isinstance(error, ssl.SSLError) or (url.startswith("wss:") and isinstance(error, ConnectionResetError)):
        sentence = "the server does not speak TLS: use ws:// in the address, or put a TLS proxy before the server"
    elif isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        sentence = "nothing listens there: start se-server first, or check host and port"
    elif isinstance(error, OSError):
        sentence = f"cannot connect ({error.strerror or error}): check host and port"
    else:
        sentence = f"the WebSocket handshake failed ({error}): is this a Speech Engine server's address?"
    return CallerError(f"{shown(url)}: {sentence}")
