"""A connection of our own transport: the only importer of picows' C API.

    socket -> FrameGate -> picows' WSProtocol -> Connection -> session
    session -> SocketOutbox -> socket

picows parses frame N+1 before it delivers frame N, and takes for granted much of what RFC 6455 forbids. The gate owns the
protocol object (its class is in no .pxd, so it cannot be subclassed), checks each frame's head and gives it one frame at
a time. Reads go straight into picows' buffer, where the payload is unmasked and the message is read in place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.string cimport memcpy
from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

from se_server.conversation._pump cimport borrow_buffer, return_buffer
from se_server.protocol._wire cimport UTF8_ACCEPT, UTF8_REJECT, Buffer, Message, decode_message, utf8_check

import asyncio
import logging

import picows
from picows.picows import WSAutoPingStrategy, WSProtocol

from se_server.errors import InvalidUtf8, MessageError

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void* data, size_t size, int flags)
    enum: MSG_DONTWAIT

cdef extern from *:
    """
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    """
    enum: MSG_NOSIGNAL

cdef enum:
    # RFC 6455, 7.4.1
    CLOSE_PROTOCOL_ERROR = 1002
    CLOSE_INVALID_TEXT = 1007
    CLOSE_POLICY = 1008
    CLOSE_TOO_BIG = 1009

    # Results of frame_bytes() that are no size.
    HEAD_INCOMPLETE = 0
    BAD_RSV = -1
    BAD_OPCODE = -2
    BAD_MASK = -3
    BAD_CONTROL = -4
    BAD_LENGTH = -5
    TOO_BIG = -6

    # No state of utf8_check(): the payload is no text.
    TEXT_UNCHECKED = 255

    # Messages for which the clock is read once.
    MESSAGES_PER_LOOK = 64

    # The keep-alive looks at a connection four times an interval; three looks without traffic are at most the interval.
    QUIET_LOOKS = 3

cdef dict _VIOLATIONS = {
    BAD_RSV: "reserved bits are set",
    BAD_OPCODE: "unknown opcode",
    BAD_MASK: "frame is not masked",
    BAD_CONTROL: "control frame is fragmented or longer than 125 bytes",
    BAD_LENGTH: "length is not in its shortest form",
}

# How long a peer that broke the protocol may still read why; RFC 6455, 7.1.7 would allow to drop it at once. Shorter than
# the second or more that clients wait for a server to drop the socket first, as 7.1.1 wants it.
cdef double LINGER_S = 0.5

# The head picows gets: the real one was checked by the handshake, so that it only has to take the key from it.
cdef bytes _HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)

cdef object _log = logging.getLogger("se_server.connection")
cdef bytearray _scratch = bytearray(4096)


class _PicowsLog:
    """picows tells every connection and every protocol error; only what would be a bug of ours is worth a line."""

    def isEnabledFor(self, level):
        return False

    def _ignore(self, *_args):
        pass

    debug = info = log = error = warning = _ignore

    def exception(self, message, *args):
        _log.exception(message, *args)


cdef object _picows_log = _PicowsLog()


cdef Py_ssize_t frame_bytes(const unsigned char* head, Py_ssize_t have, Py_ssize_t max_payload_bytes) noexcept:
    """Return the size of the client frame that starts at `head`, HEAD_INCOMPLETE, or what is wrong (RFC 6455, 5.2)."""
    if have < 2:
        return HEAD_INCOMPLETE
    cdef unsigned char opcode = head[0] & 0x0F
    cdef Py_ssize_t length = head[1] & 0x7F
    cdef Py_ssize_t header = 6
    cdef int i
    if head[0] & 0x70:
        return BAD_RSV
    if not head[1] & 0x80:
        return BAD_MASK
    if opcode >= 8:
        if opcode > 10:
            return BAD_OPCODE
        if length > 125 or not head[0] & 0x80:
            return BAD_CONTROL
    elif opcode > 2:
        return BAD_OPCODE
    if length == 126:
        if have < 4:
            return HEAD_INCOMPLETE
        length = (<Py_ssize_t>head[2] << 8) | head[3]
        header = 8
        if length < 126:
            return BAD_LENGTH
    elif length == 127:
        if have < 10:
            return HEAD_INCOMPLETE
        if head[2] & 0x80:
            return BAD_LENGTH
        length = 0
        for i in range(2, 10):
            length = (length << 8) | head[i]
        header = 14
        if length < 65536:
            return BAD_LENGTH
    if length > max_payload_bytes:
        return TOO_BIG
    return header + length


cdef class SocketOutbox(Outbox):
    """Messages as WebSocket text frames, written straight to the socket while the transport holds nothing back."""

    def __init__(self, transport):
        self._transport = transport
        self._write = transport.write
        self._is_closing = transport.is_closing
        self._held_bytes = transport.get_write_buffer_size
        self._fd = transport.get_extra_info("socket").fileno()
        self._plain = transport.get_extra_info("ssl_object") is None
        self._active = False
        self._buffer = None

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        if not self.closed:
            if self._buffer is None:
                self._buffer = borrow_buffer()
            self._buffer.put_agent_response_frame(content, event_id_json, is_final)
        return 0

    cdef int put_pong(self) except -1:
        if not self.closed and self.writable:  # a peer that pings and never reads gets no more to hold
            if self._buffer is None:
                self._buffer = borrow_buffer()
            self._buffer.put_pong_frame()
        return 0

    cdef Py_ssize_t pending(self) noexcept:
        return self._buffer.size if self._buffer is not None else 0

    cpdef int flush(self) except -1:
        cdef Buffer buffer = self._buffer
        if buffer is None:
            return 0
        self._buffer = None
        try:
            self.write(buffer.data, buffer.size)
        finally:
            return_buffer(buffer)
        return 0

    cdef int write(self, const char* data, Py_ssize_t size) except -1:
        """Write bytes that are whole frames. After a close, or on a lost connection, they go nowhere."""
        # A transport that is closing may have given its descriptor back to the system already.
        if self.closed or self._is_closing():
            return 0
        self._active = True
        cdef Py_ssize_t sent = 0
        if self._plain and not self._held_bytes():
            sent = c_send(self._fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return 0
            if sent < 0:
                sent = 0  # a full socket, or an error that the transport will meet and report itself
        self._write(PyBytes_FromStringAndSize(data + sent, size - sent))
        return 0


cdef class _ProtocolBase:
    # asyncio wants a subclass of its BufferedProtocol, and Cython a compiled first base.
    pass


cdef class FrameGate(_ProtocolBase, asyncio.BufferedProtocol):
    """Feeds picows one checked frame at a time."""

    cdef object _protocol
    cdef object _get_buffer
    cdef object _buffer_updated
    cdef Connection _connection
    cdef char* _new             # where the bytes of the next read go, in picows' buffer
    cdef Py_ssize_t _fed        # bytes of an unfinished frame that picows has already
    cdef unsigned int _utf8     # the state after the payload of an unfinished text frame

    def __init__(self, protocol, Connection connection not None):
        self._protocol = protocol
        self._get_buffer = protocol.get_buffer
        self._buffer_updated = protocol.buffer_updated
        self._connection = connection
        self._new = NULL
        self._fed = 0

    def get_buffer(self, size_hint):
        if self._connection.deaf:
            return _scratch
        view = self._get_buffer(size_hint)
        self._new = <char*>PyMemoryView_GET_BUFFER(view).buf
        return view

    def buffer_updated(self, Py_ssize_t count):
        if not self._connection.deaf:
            self._connection.active = True
            self._read(self._new, count)
        elif <unsigned char>_scratch[0] == 0x80 | WSMsgType.CLOSE:
            self._connection.hang_up()

    def connection_made(self, transport):
        pass  # the transport is handed over when it is connected already

    def connection_lost(self, exc):
        self._protocol.connection_lost(exc)
        self._protocol = self._get_buffer = self._buffer_updated = None

    def eof_received(self):
        self._connection.peer_finished()
        return False  # the transport closes itself, once it has written what it holds

    def pause_writing(self):
        self._connection.pause_writing()

    def resume_writing(self):
        self._connection.resume_writing()

    cdef int _read(self, char* new, Py_ssize_t count) except -1:
        """Take `count` bytes that were read to `new`."""
        cdef Py_ssize_t have = self._fed + count
        cdef Py_ssize_t size = self._check(new - self._fed, have)
        cdef bytes rest
        if size < 0:
            return 0
        if size == HEAD_INCOMPLETE or size > have:
            self._check_part(<unsigned char*>new - self._fed, self._fed, have)
            self._fed = have
            self._buffer_updated(count)
            return 0
        self._fed = 0
        if size == have:
            self._buffer_updated(count)
            return 0
        # Several frames in one read. picows moves its bytes while it works: what follows the first waits elsewhere.
        rest = PyBytes_FromStringAndSize(new + count - (have - size), have - size)
        self._buffer_updated(count - (have - size))
        return self.feed(PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))

    cdef int feed(self, const char* data, Py_ssize_t count) except -1:
        """Take bytes that stand elsewhere, a frame's start first."""
        cdef Py_ssize_t size
        while count and not self._connection.deaf:
            size = self._check(data, count)
            if size < 0:
                return 0
            if size == HEAD_INCOMPLETE or size > count:
                self._check_part(<const unsigned char*>data, 0, count)
                self._fed = count
                return self._copy(data, count)
            self._copy(data, size)
            data += size
            count -= size
        return 0

    cdef int _copy(self, const char* data, Py_ssize_t count) except -1:
        cdef Py_ssize_t room
        while count and not self._connection.deaf:
            view = self._get_buffer(count)
            room = min(PyMemoryView_GET_BUFFER(view).len, count)
            memcpy(PyMemoryView_GET_BUFFER(view).buf, data, room)
            del view
            self._buffer_updated(room)
            data += room
            count -= room
        return 0

    cdef Py_ssize_t _check(self, const char* data, Py_ssize_t have) except -100:
        """Return the frame's size, HEAD_INCOMPLETE, or a negative number after the connection was failed."""
        cdef const unsigned char* head = <const unsigned char*>data
        cdef Py_ssize_t size = frame_bytes(head, have, self._connection.max_message_bytes)
        if size < 0:
            if size == TOO_BIG:
                self._connection.fail(CLOSE_TOO_BIG, "message is too big")
            else:
                self._connection.fail(CLOSE_PROTOCOL_ERROR, _VIOLATIONS[size])
                if head[0] & 0x0F == WSMsgType.CLOSE:
                    self._connection.hang_up()
        elif 0 < size <= have and head[0] & 0x0F == WSMsgType.CLOSE:
            size = self._check_close(head, size)
        return size

    cdef int _check_part(self, const unsigned char* frame, Py_ssize_t seen, Py_ssize_t have) except -1:
        """Check the text of a frame whose end has not arrived, from byte `seen` on, so that bad text fails at once.

        What completes a frame is not looked at here: then the whole message or fragment is checked, as any other is.
        """
        cdef unsigned char opcode = frame[0] & 0x0F
        cdef unsigned char mask[4]
        cdef unsigned char text[4096]
        cdef Py_ssize_t header, start, size, i
        if have < 6 or opcode > WSMsgType.TEXT:
            return 0
        header = 14 if frame[1] == 0xFF else 8 if frame[1] == 0xFE else 6
        if have <= header:
            return 0
        start = max(seen - header, 0)
        if start == 0:
            self._utf8 = self._connection.utf8_state_before(opcode)
        if self._utf8 == TEXT_UNCHECKED:
            return 0
        frame += header
        have -= header
        while start < have:
            size = min(<Py_ssize_t>sizeof(text), have - start)
            for i in range(4):
                mask[i] = (frame - 4)[(start + i) & 3]
            for i in range(size):
                text[i] = frame[start + i] ^ mask[i & 3]
            self._utf8 = utf8_check(self._utf8, text, size)
            if self._utf8 == UTF8_REJECT:
                return self._connection.fail(CLOSE_INVALID_TEXT, "text is not UTF-8")
            start += size
        return 0

    cdef Py_ssize_t _check_close(self, const unsigned char* frame, Py_ssize_t size) except -100:
        """Check a CLOSE frame's payload (RFC 6455, 7.4), which picows does in part only."""
        cdef unsigned char payload[125]
        cdef Py_ssize_t length = size - 6
        cdef Py_ssize_t i
        cdef int code
        if not length:
            return size
        for i in range(length):
            payload[i] = frame[6 + i] ^ frame[2 + (i & 3)]
        code = (payload[0] << 8) | payload[1] if length > 1 else 0
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            return self._refuse_close(CLOSE_PROTOCOL_ERROR, "invalid close code")
        if utf8_check(UTF8_ACCEPT, payload + 2, length - 2) != UTF8_ACCEPT:
            return self._refuse_close(CLOSE_INVALID_TEXT, "close reason is not UTF-8")
        return size

    cdef Py_ssize_t _refuse_close(self, int code, str reason) except -100:
        self._connection.fail(code, reason)
        self._connection.hang_up()
        return BAD_CONTROL


cdef class Connection(WSListener):
    """One WebSocket of our own transport.

    Args:
        loop: the running loop.
        transport: an asyncio transport whose upgrade request was accepted; its 101 is sent here.
        settings: a `SessionSettings`.
        on_gone: called once, when the socket is gone.
    """

    def __init__(self, loop, transport, settings, on_gone):
        self._loop = loop
        self._transport = transport
        self._settings = settings
        self._on_gone = on_gone
        self.max_message_bytes = settings.max_message_bytes
        self.outbox = SocketOutbox(transport)
        self._history = History()
        self._message_rate = settings.max_messages_per_s
        self._messages_left = settings.max_messages_burst
        self._counted_at = loop.time()
        self._control_left = settings.max_control_frames_per_s
        self._control_at = self._counted_at

    def start(self, session, bytes websocket_key not None, bytes tail not None):
        """Answer the upgrade, take the socket over and read what came behind the head."""
        self.session = session
        protocol = WSProtocol(
            None, None, False, self._give_listener, _picows_log, True, None, False, 1, 1,
            WSAutoPingStrategy.PING_WHEN_IDLE, False, self.max_message_bytes, None, 2048,
        )
        protocol.connection_made(self._transport)
        cdef FrameGate gate = FrameGate(protocol, self)
        cdef bytes head = _HEAD % websocket_key
        self._gate = gate
        gate._copy(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        self._transport.set_write_buffer_limits(high=self._settings.write_high_water_bytes)
        self._transport.set_protocol(gate)
        self._silence = self._loop.call_later(self._settings.first_message_timeout_s, self._say_too_silent)
        if tail:
            gate.feed(PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))

    def _give_listener(self, _request):
        return self

    # --- what arrives ---

    cpdef on_ws_connected(self, WSTransport transport):
        transport.request = None  # of the canonical head: a kilobyte that nobody reads
        transport.response = None

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef WSMsgType kind = frame.msg_type
        if self.deaf:
            return
        if kind > WSMsgType.CLOSE and not self._may_control():
            self.fail(CLOSE_POLICY, "too many control frames")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:
            if self._fragments is not None:
                self.fail(CLOSE_PROTOCOL_ERROR, "a new message inside a fragmented one")
            elif frame.fin:
                if self._count_message():
                    self._deliver(frame.payload_ptr, frame.payload_size, kind == WSMsgType.TEXT)
            else:
                self._fragments = bytearray()
                self._fragment_count = 0
                self._fragments_are_text = kind == WSMsgType.TEXT
                self._utf8 = UTF8_ACCEPT
                self._add_fragment(frame)
        elif kind == WSMsgType.CONTINUATION:
            if self._fragments is None:
                self.fail(CLOSE_PROTOCOL_ERROR, "a continuation of nothing")
            else:
                self._add_fragment(frame)
        elif kind == WSMsgType.PING and self.outbox.writable:
            self._send_control(WSMsgType.PONG, frame.payload_ptr, frame.payload_size)
        elif kind == WSMsgType.PONG:
            self._stop_waiting_for_pong()
        elif kind == WSMsgType.CLOSE:
            self._receive_close(frame)

    cdef bint _count_message(self) except -1:
        """Whether one more message is within the rate; else the connection was failed."""
        cdef double now
        if self._pong_due is not None:
            self._stop_waiting_for_pong()  # whoever sends messages is alive, whatever it makes of pings
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._uncounted += 1
        if self._uncounted == MESSAGES_PER_LOOK:
            now = self._loop.time()
            self._messages_left = min(
                self._messages_left + (now - self._counted_at) * self._message_rate,
                <double>self._settings.max_messages_burst,
            ) - self._uncounted
            self._counted_at = now
            self._uncounted = 0
            if self._messages_left < 0:
                self.fail(CLOSE_POLICY, "too many messages")
                return False
        return True

    cdef bint _may_control(self) except -1:
        """Whether one more PING or PONG is within the rate; a second's worth may come at once."""
        cdef double rate = self._settings.max_control_frames_per_s
        cdef double now = self._loop.time()
        self._control_left = min(self._control_left + (now - self._control_at) * rate, rate) - 1
        self._control_at = now
        return self._control_left >= 0

    cdef int _stop_waiting_for_pong(self) except -1:
        if self._pong_due is not None:
            self._pong_due.cancel()
            self._pong_due = None
        return 0

    def _say_too_silent(self):
        self._silence = None
        if not self.deaf:
            self.fail(CLOSE_POLICY, "no message came")

    def _miss_pong(self):
        self._pong_due = None
        session = self.session
        self.abort()
        session.connection_lost()

    cdef unsigned int utf8_state_before(self, unsigned char opcode) noexcept:
        """The UTF-8 state that a TEXT or CONTINUATION frame starts from; TEXT_UNCHECKED if it is no text."""
        if opcode == WSMsgType.TEXT:
            return UTF8_ACCEPT
        return self._utf8 if self._fragments is not None and self._fragments_are_text else TEXT_UNCHECKED

    cdef int _add_fragment(self, WSFrame frame) except -1:
        cdef bytearray message = self._fragments
        self._fragment_count += 1
        if (len(message) + frame.payload_size > self.max_message_bytes
                or self._fragment_count > self._settings.max_fragments):
            return self.fail(CLOSE_TOO_BIG, "message is too big")
        if self._fragments_are_text:
            self._utf8 = utf8_check(self._utf8, <unsigned char*>frame.payload_ptr, frame.payload_size)
            if self._utf8 == UTF8_REJECT or (frame.fin and self._utf8 != UTF8_ACCEPT):
                return self.fail(CLOSE_INVALID_TEXT, "text is not UTF-8")
        message += frame.payload_ptr[:frame.payload_size]
        if frame.fin:
            self._fragments = None
            if self._count_message():
                self._deliver(message, len(message), self._fragments_are_text)
        return 0

    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1:
        cdef Message message
        if self.outbox.closed:
            return 0  # after our CLOSE only the peer's CLOSE is waited for
        try:
            message = decode_message(data, size, self._history)
        except InvalidUtf8 as error:
            if is_text:  # RFC 6455, 8.1; a binary message may hold anything
                return self.fail(CLOSE_INVALID_TEXT, "text is not UTF-8")
            self.session.receive_error(error)
        except MessageError as error:
            self.session.receive_error(error)
        else:
            self.session.receive(message)
        return 0

    cdef int _receive_close(self, WSFrame frame) except -1:
        self.deaf = True
        # RFC 6455, 5.5.1: the answer repeats the code; an empty CLOSE is answered by an empty one.
        self._send_close(frame.payload_ptr, min(frame.payload_size, 2))
        self._transport.close()
        self.session.connection_lost()
        return 0

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.deaf = True
        self._shut()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._stop_waiting_for_pong()
        self._gate = None
        session, self.session = self.session, None
        session.connection_lost()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def start_reading(self):
        """Nothing to start: what arrives is pushed."""

    def wait_closed(self):
        """Return a future that is done when the socket is gone."""
        if self._gone is None:
            self._gone = self._loop.create_future()
            if self._on_gone is None:
                self._gone.set_result(None)
        return asyncio.shield(self._gone)

    # --- what is sent besides answers ---

    def close(self, int code, str reason not None):
        """Start the close handshake; the socket goes when the peer answers, or after the close timeout."""
        if not self.outbox.closed:
            self.outbox.flush()  # what was said before the close is still said
            payload = code.to_bytes(2, "big") + reason.encode()[:123]
            self._send_close(payload, len(payload))

    cdef int fail(self, int code, str reason) except -1:
        """End a connection whose peer broke the protocol (RFC 6455, 7.1.7); nothing it sends is read any more."""
        self.deaf = True
        self.close(code, reason)
        self._set_timer(LINGER_S, self.abort)
        self.session.connection_lost()
        return 0

    cdef int hang_up(self) except -1:
        """Both sides have said CLOSE: the server drops the socket first (RFC 6455, 7.1.1).

        After a violation the peer's frames are not read: what looks like its CLOSE ends the waiting for it.
        """
        self._transport.close()
        return 0

    cdef int peer_finished(self) except -1:
        """The peer will send nothing more: whatever it still reads, the conversation is over."""
        self.deaf = True
        self._shut()
        self._set_timer(self._settings.close_timeout_s, self.abort)
        self.session.connection_lost()
        return 0

    def abort(self):
        """Drop the socket without waiting for anything."""
        self.deaf = True
        self._shut()
        self._transport.abort()

    def look(self):
        """One of four looks an interval: ping if nothing went either way for three of them."""
        if self.active or self.outbox._active:
            self.active = self.outbox._active = False
            self._quiet_looks = 0
        else:
            self._quiet_looks += 1
            if self._quiet_looks == QUIET_LOOKS:
                self._quiet_looks = 0
                self._send_control(WSMsgType.PING, b"", 0)
                if self._pong_due is None and not self.outbox.closed:
                    self._pong_due = self._loop.call_later(self._settings.ping_timeout_s, self._miss_pong)

    cpdef pause_writing(self):
        """The transport holds more than the high-water mark."""
        if not self.outbox.closed:
            self.outbox.set_writable(False)
            self._set_timer(self._settings.write_timeout_s, self._write_timed_out)

    cpdef resume_writing(self):
        """The transport holds less than the low-water mark again."""
        if not self.outbox.closed and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.outbox.set_writable(True)

    def _write_timed_out(self):
        self.session.write_timed_out()
        self.abort()

    cdef int _send_control(self, WSMsgType kind, const char* payload, Py_ssize_t size) except -1:
        cdef char frame[127]
        if not self.outbox.closed:
            frame[0] = <char>(0x80 | <int>kind)
            frame[1] = <char>size
            memcpy(&frame[2], payload, size)
            self.outbox.write(frame, size + 2)
        return 0

    cdef int _send_close(self, const char* payload, Py_ssize_t size) except -1:
        """Send the last frame. What an answer has put but not flushed is dropped: nothing follows a CLOSE."""
        if self.outbox.closed:
            return 0
        self._send_control(WSMsgType.CLOSE, payload, size)
        self._shut()
        self._set_timer(self._settings.close_timeout_s, self.abort)
        return 0

    cdef int _set_timer(self, double delay_s, action) except -1:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, action)
        return 0

    cdef int _shut(self) except -1:
        self.outbox.closed = True
        self.outbox.set_writable(True)
        return 0
