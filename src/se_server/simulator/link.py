"""The WebSocket under a caller: picows' client, with the parts of the protocol that it leaves to its user."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import picows
from picows.url import WSInvalidURL, parse_url

from se_server.errors import CallerError

# picows tells about every connection, and about what we turn into sentences ourselves: this logger drops it all.
_silent = logging.Logger("se_server.simulator", logging.CRITICAL + 1)


@dataclass(frozen=True)
class Ended:
    """How the connection ended.

    Attributes:
        code: the close code that the server sent; None when it sent no CLOSE frame, or one without a code.
        reason: its reason, often empty; or what was wrong with the server's frames.
        by_server: whether the server began it.
        is_clean: whether a CLOSE frame came before the connection went.
    """

    code: int | None
    reason: str
    by_server: bool
    is_clean: bool

    def __str__(self) -> str:
        if not self.by_server:
            return "the caller hung up"
        if not self.is_clean:
            return self.reason or "the connection was lost"
        details = " ".join(str(detail) for detail in (self.code, self.reason) if detail)
        return f"the server closed the conversation ({details})" if details else "the server closed the conversation"


async def open_websocket(
    url: str, headers: Mapping[str, str], timeout_s: float, on_message: Callable[[bytes], None]
) -> tuple[picows.WSTransport, Listener]:
    """Connect and upgrade.

    Args:
        url: a `ws://` or `wss://` address.
        headers: further headers of the upgrade request.
        timeout_s: the longest wait for the connection, and again for the upgrade, in seconds.
        on_message: called on the loop with each whole message; must not raise.

    Raises:
        CallerError: with the sentence that says what to do.
    """
    try:
        parse_url(url)
    except (WSInvalidURL, ValueError):
        raise CallerError(f"{url}: this is no WebSocket address: it looks like ws://127.0.0.1:3001/ws") from None
    # Made before the connection: picows asks for it in the middle of the handshake, and types it as its base.
    listener = Listener(on_message)
    try:
        transport, accepted = await asyncio.wait_for(
            picows.ws_connect(
                lambda: listener,
                url,
                logger_name=_silent,
                extra_headers=headers,
                max_redirects=0,
                # Only picows can give the half-open connection back: its own timeout has to be the first.
                websocket_handshake_timeout=timeout_s,
                use_aiofastnet=False,
            ),
            2 * timeout_s,
        )
    except (picows.WSError, OSError, asyncio.TimeoutError) as error:
        raise _refusal(url, error, timeout_s) from error
    # picows reports a connection that broke off during the handshake as opened, without a listener.
    if accepted is not listener:
        raise CallerError(f"{url}: the server hung up during the handshake: is a WebSocket server listening there?")
    return transport, listener


class Listener(picows.WSListener):
    """Puts messages together from frames, and answers the server's close handshake.

    Attributes:
        close: code and reason of the CLOSE frame that the server sent; None as long as none came.
    """

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        super().__init__()
        self.close: tuple[int | None, str] | None = None
        self._on_message = on_message
        self._fragments = bytearray()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self.close is not None:
            return  # nothing counts after a CLOSE, but picows delivers what came in the same read
        if frame.msg_type == picows.WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
            self.close = (code, payload[2:].decode("utf-8", "replace"))
            # picows leaves the answer to us (RFC 6455, section 5.5.1).
            if not transport.is_close_frame_sent:
                transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
            return
        # Other frames are pongs of pings that nobody sent; pings are answered by picows.
        if frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            self._fragments += frame.get_payload_as_bytes()
            if frame.fin:
                message, self._fragments = bytes(self._fragments), bytearray()
                self._on_message(message)

    async def wait_gone(self, transport: picows.WSTransport) -> str:
        """Wait until the connection is gone, and return what was wrong with the server's frames: mostly nothing."""
        try:
            await transport.wait_disconnected()
        except picows.WSProtocolError as error:
            return f"the server broke the WebSocket protocol: {error}"
        return ""

    def pause_writing(self) -> None:
        """What a user says is small: let the transport buffer it."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""


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
