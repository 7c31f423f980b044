"""A connection of our own transport: with `_framer`, the only importer of picows' C API.

    socket -> FrameGate -> picows' WSProtocol (Framer) -> FrameGate -> Connection -> session
    session -> SocketOutbox -> socket

picows takes for granted much of what RFC 6455 forbids. So the gate checks each frame's head and gives picows one whole
frame at a time, which then needs to know nothing of its connection: there is one protocol object of picows for all.
Reads go straight into its buffer, where the payload is unmasked and the message is read in place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy
from picows.picows cimport WSFrame, WSMsgType

from se_server.conversation._batch cimport Batch, batch_of
from se_server.conversation._framer cimport READ_MAX, Framer
from se_server.conversation._outbox cimport borrow_buffer, return_buffer
from se_server.conversation._rate cimport (
    ENTRY_WORK, FEW_UNFINISHED, FRAGMENT_WORK, MESSAGE_WORK, Budget, take, unfinished_of,
)
from se_server.conversation._steps cimport Steps, steps_of
from se_server.protocol._wire cimport UTF8_ACCEPT, UTF8_REJECT, Buffer, Message, decode_message, utf8_check

import asyncio
import logging
from binascii import b2a_base64
from hashlib import sha1

from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.errors import InvalidUtf8, MessageError
from se_server.protocol import close_codes

cdef enum:
    # A batch holds at most this much of one answer. More is sent at once: it would leave the caches before its turn.
    MAX_HELD_BYTES = 8192

    # Units of work for which the budgets, of the conversation and of the step, are looked at once.
    WORK_PER_LOOK = 16 * 1024

    # Units of work of a conversation that ends: 30 of them fill a step.
    LEAVE_WORK = 16 * 1024

    # The most that is written to a peer that reads too slowly, as a multiple of the high-water mark.
    BEYOND_MARKS = 4

    # Messages for which the clock is read once.
    MESSAGES_PER_LOOK = 64

    # The keep-alive looks at a connection four times an interval; three looks without traffic are at most the interval.
    QUIET_LOOKS = 3

# Time for a peer that broke the protocol to read the reason; RFC 6455, 7.1.7 allows dropping it at once. Clients wait a
# second or more for the server to drop the socket first (7.1.1).
cdef double LINGER_S = 0.5

# The time between two looks whether a program that reads the WebSocket itself has read enough to go on.
cdef double FULL_LOOK_S = 0.01

cdef bytes _ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
cdef bytes _GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

cdef tuple _NO_ENDING = (close_codes.ABNORMAL, "")

cdef object _log = logging.getLogger("se_server.connection")

include "_listener_gate.pxi"
include "_listener_outbox.pxi"


cdef class Shared:
    """The values and objects that all connections of one door share.

    Args:
        loop: the running loop.
        settings: a `SessionSettings`.
        silent, unanswered: `Deadlines` of connections, for their first message and for the answer to a ping.
        on_gone: called once with each connection, when its socket is gone.
    """

    def __init__(self, loop, settings, silent, unanswered, on_gone):
        self.loop = loop
        self.silent = silent
        self.unanswered = unanswered
        self.on_gone = on_gone
        self.batch = batch_of(loop)
        self.framer = Framer()
        self.max_message_bytes = settings.max_message_bytes
        self.max_fragments = settings.max_fragments
        self.message_rate = settings.max_messages_per_s
        self.message_burst = settings.max_messages_burst
        self.control_rate = settings.max_control_frames_per_s
        self.work_rate = settings.max_work_per_s
        self.unfinished = unfinished_of(loop, settings.max_message_bytes)
        self.steps = steps_of(loop, settings.max_work_per_s)
        self.high_water_bytes = settings.write_high_water_bytes
        self.write_timeout_s = settings.write_timeout_s
        self.close_timeout_s = settings.close_timeout_s


cdef class Connection:
    """One WebSocket of our own transport.

    Args:
        shared: what it has in common with others.
        gate: the protocol of its transport.
        transport: an asyncio transport whose upgrade request was accepted; its 101 is sent here.
        fd: of its socket, to write to without a detour; -1 if the bytes are the transport's affair, as with TLS.
    """

    def __init__(self, Shared shared not None, FrameGate gate not None, transport, int fd):
        self._shared = shared
        self._gate = gate
        self._transport = transport
        self.outbox = self.make_outbox(transport, fd, shared.batch)
        self._history = History(shared.max_message_bytes)
        self.ending = _NO_ENDING
        self._messages.tokens = shared.message_burst
        self._controls.tokens = shared.control_rate
        self._messages.counted_at = self._controls.counted_at = shared.loop.time()

    @property
    def max_message_bytes(self):
        return self._shared.max_message_bytes

    @property
    def is_gone(self):
        return self._gate is None

    @property
    def fd(self):
        return -1 if self._gate is None else self.outbox.fd

    def start(self, session, bytes websocket_key not None, bytes tail not None):
        """Answer the upgrade, take the socket over, and read the bytes that followed the head."""
        cdef bytes head = _ANSWER % b2a_base64(sha1(websocket_key + _GUID, usedforsecurity=False).digest(), newline=False)
        cdef FrameGate gate = self._gate
        self.session = session
        self._core = session if isinstance(session, SessionCore) else None
        self.outbox.write(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        self._transport.set_write_buffer_limits(high=self._shared.high_water_bytes)
        gate.open(self)
        self._is_silent = True
        self._shared.silent.add(self)
        if tail:
            gate.feed(PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))

    # --- what arrives ---

    cdef int receive_frame(self, WSFrame frame) except -1:
        """Handle a whole, checked frame."""
        try:
            self._receive_frame(frame)
        except Exception:
            _log.exception("a bug of se-server's ends a conversation")
            self.fail(close_codes.INTERNAL_ERROR, "")
        return 0

    cdef int _receive_frame(self, WSFrame frame) except -1:
        cdef WSMsgType kind = frame.msg_type
        if kind > WSMsgType.CLOSE and not self._may_control():
            self.fail(close_codes.POLICY, "too many control frames")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:
            if self._fragments is not None:
                self.fail_order()
            elif frame.fin:
                if self._count_message():
                    self._deliver(frame.payload_ptr, frame.payload_size, kind == WSMsgType.TEXT)
                    if self._gate is not None:
                        self._count_work(frame.payload_size)
            else:
                self._fragments = bytearray()
                self._fragment_count = 0
                self._fragments_are_text = kind == WSMsgType.TEXT
                self._utf8 = UTF8_ACCEPT
                self._add_fragment(frame)
        elif kind == WSMsgType.CONTINUATION:
            if self._fragments is None:
                self.fail_order()
            else:
                self._add_fragment(frame)
        elif kind == WSMsgType.PING and self.outbox.writable:
            self._send_control(WSMsgType.PONG, frame.payload_ptr, frame.payload_size)
        elif kind == WSMsgType.PONG:
            self._stop_waiting_for_pong()
        elif kind == WSMsgType.CLOSE:
            self._receive_close(frame)
        return 0

    cdef bint _count_message(self) except -1:
        """Count a message; return whether it is within the rate. Otherwise the connection is failed."""
        cdef Shared shared = self._shared
        if self._awaits_pong:
            self._stop_waiting_for_pong()  # a peer that sends messages is alive, with or without pongs
        if self._is_silent:
            self._is_silent = False
            shared.silent.discard(self)
        self._uncounted += 1
        if self._uncounted == MESSAGES_PER_LOOK:
            self._uncounted = 0
            if not take(
                &self._messages, MESSAGES_PER_LOOK, shared.message_rate, shared.message_burst, shared.loop.time()
            ):
                self.fail(close_codes.POLICY, "too many messages")
                return False
        return True

    cdef int _count_work(self, Py_ssize_t size) except -1:
        """Count the work of a message. Beyond the budget nothing is read for a while."""
        cdef Shared shared = self._shared
        cdef Py_ssize_t work = self._work + size + MESSAGE_WORK + ENTRY_WORK * self._history._decoded
        cdef double pause_s, now
        self._history._decoded = 0
        if work < WORK_PER_LOOK:
            self._work = work
            return 0
        self._work = 0
        shared.steps.charge(work)
        now = shared.loop.time()
        if self._budget is None:
            self._budget = Budget(shared.work_rate, shared.write_timeout_s, now)
        pause_s = self._budget.take(work, now)
        if pause_s < 0:
            return self.fail(close_codes.POLICY, "too much work")
        if pause_s > 0 and not self.deaf:
            (<FrameGate>self._gate).hold(pause_s)
        return 0

    cdef int note_unfinished(self, Py_ssize_t size) except -1:
        """Note the bytes of a message that is not whole. Beyond the bound of all, the oldest such message ends."""
        cdef Connection oldest = self._shared.unfinished.note(self, size)
        self.is_noted = size >= FEW_UNFINISHED
        if oldest is not None:
            oldest._drop_unfinished()
            oldest.fail(close_codes.POLICY, "too many unfinished messages")
        return 0

    cdef int _drop_unfinished(self) except -1:
        self._fragments = None
        if self._gate is not None:
            (<FrameGate>self._gate)._part = None
        if self.is_noted:
            self.note_unfinished(0)
        return 0

    cdef bint _may_control(self) except -1:
        """Count a PING or PONG; return whether it is within the rate. The burst is one second's worth."""
        cdef double rate = self._shared.control_rate
        return take(&self._controls, 1, rate, rate, self._shared.loop.time())

    cdef int _stop_waiting_for_pong(self) except -1:
        if self._awaits_pong:
            self._awaits_pong = False
            self._shared.unanswered.discard(self)
        return 0

    def miss_message(self):
        """Close a connection whose first message did not arrive in time."""
        self._is_silent = False
        if not self.deaf:
            self.fail(close_codes.POLICY, "no message came")

    def miss_pong(self):
        """Drop a connection whose peer did not answer a ping in time."""
        self._awaits_pong = False
        if self._gate is not None and (<FrameGate>self._gate)._is_held:
            self._awaits_pong = True  # the answer may have come: nothing was read
            self._shared.unanswered.add(self)
            return
        session = self.session
        if not self.outbox.closed:
            self.ending = (close_codes.ABNORMAL, "no answer to a ping")
        self.abort()
        session.connection_lost()

    cdef bint is_out_of_order(self, unsigned char opcode) noexcept:
        """Whether a data frame starts a message inside another, or continues none."""
        return (opcode == WSMsgType.CONTINUATION) == (self._fragments is None)

    cdef int fail_order(self) except -1:
        return self.fail(
            close_codes.PROTOCOL_ERROR,
            "a continuation of nothing" if self._fragments is None else "a new message inside a fragmented one",
        )

    cdef unsigned int utf8_state_before(self, unsigned char opcode) noexcept:
        """The UTF-8 state that a data frame in its place starts from; TEXT_UNCHECKED if it is not text."""
        if opcode == WSMsgType.CONTINUATION:
            return self._utf8 if self._fragments_are_text else TEXT_UNCHECKED
        return UTF8_ACCEPT if opcode == WSMsgType.TEXT else TEXT_UNCHECKED

    cdef int _add_fragment(self, WSFrame frame) except -1:
        cdef bytearray message = self._fragments
        self._fragment_count += 1
        self._work += FRAGMENT_WORK
        if (len(message) + frame.payload_size > self._shared.max_message_bytes
                or self._fragment_count > self._shared.max_fragments):
            return self.fail(close_codes.TOO_BIG, "message is too big")
        if self._fragments_are_text:
            self._utf8 = utf8_check(self._utf8, <unsigned char*>frame.payload_ptr, frame.payload_size)
            if self._utf8 == UTF8_REJECT or (frame.fin and self._utf8 != UTF8_ACCEPT):
                return self.fail(close_codes.INVALID_TEXT, "text is not UTF-8")
        message += frame.payload_ptr[:frame.payload_size]
        if frame.fin:
            self._fragments = None
            if self._count_message():
                self._deliver(message, len(message), self._fragments_are_text)
                if self._gate is not None:
                    self._count_work(len(message))
        return 0

    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1:
        cdef Message message
        if self.outbox.closed:
            return 0  # after our CLOSE only the peer's CLOSE is waited for
        if self.on_raw is not None:
            return self._deliver_raw(data[:size], is_text)
        try:
            message = decode_message(data, size, self._history)
        except InvalidUtf8 as error:
            if is_text:  # RFC 6455, 8.1; a binary message may hold anything
                return self.fail(close_codes.INVALID_TEXT, "text is not UTF-8")
            self.session.receive_error(error)
        except MessageError as error:
            self.session.receive_error(error)
        else:
            if self._core is not None:
                self._core._take_message(message)  # no look-up of a method, no check for one that overrides it
            else:
                self.session.receive(message)
        return 0

    cdef int _deliver_raw(self, bytes data, bint is_text) except -1:
        """Give a message, as it came, to whoever reads the WebSocket in place of a session."""
        if is_text:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return self.fail(close_codes.INVALID_TEXT, "text is not UTF-8")
            self.on_raw(text)
        else:
            self.on_raw(data)
        if self.is_full and not self.deaf:
            (<FrameGate>self._gate).hold(FULL_LOOK_S)
        return 0

    cdef int _receive_close(self, WSFrame frame) except -1:
        self._shared.steps.charge(LEAVE_WORK)
        self.deaf = True
        if not self.outbox.closed:
            self._note_close(frame.payload_ptr, frame.payload_size)
        # RFC 6455, 5.5.1: the answer repeats the code; an empty CLOSE is answered by an empty one.
        self._send_close(frame.payload_ptr, min(frame.payload_size, 2))
        self._transport.close()
        self.session.connection_lost()
        return 0

    cdef int _note_close(self, const char* payload, Py_ssize_t size) except -1:
        cdef const unsigned char* code = <const unsigned char*>payload
        if size < 2:
            self.ending = (close_codes.NO_CODE, "closed by the peer")
        else:
            reason = payload[2:size].decode("utf-8", "replace")
            self.ending = ((code[0] << 8) | code[1], reason or "closed by the peer")
        return 0

    cdef int lost(self) except -1:
        """The socket is gone."""
        shared = self._shared
        self.deaf = True
        self._shut()
        self._drop_unfinished()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_silent:
            self._is_silent = False
            shared.silent.discard(self)
        self._stop_waiting_for_pong()
        session, self.session, self._core = self.session, None, None
        session.connection_lost()
        self._gate = None
        shared.on_gone(self, session)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        return 0

    def leave(self):
        """Do the work of a lost socket, in a later step."""
        self._shared.steps.charge(LEAVE_WORK)
        self.lost()

    def start_reading(self):
        """Do nothing: the transport pushes its messages."""
        return False

    def wait_closed(self):
        """Return a future that is done when the socket is gone."""
        if self._gone is None:
            self._gone = self._shared.loop.create_future()
            if self._gate is None:
                self._gone.set_result(None)
        return asyncio.shield(self._gone)

    # --- what is sent besides answers ---

    def close(self, int code, str reason not None):
        """Start the close handshake; the socket goes when the peer answers, or after the close timeout."""
        if not self.outbox.closed:
            self.outbox.flush()  # text put before the close still goes out
            payload = code.to_bytes(2, "big") + reason.encode()[:123]
            self.ending = (code, reason)
            self._send_close(payload, len(payload))

    def bind(self, loop):
        """Nothing to bind: it belongs to its loop from the start."""

    def finish(self):
        """The conversation has ended as it should: close with 1000."""
        self.close(close_codes.NORMAL, "")

    def send_text(self, bytes text not None):
        """Send a text message that is no part of an answer."""
        cdef bytes head
        cdef Py_ssize_t size = len(text)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 0x10000:
            head = bytes((0x81, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x81, 127)) + size.to_bytes(8, "big")
        if not self.outbox.closed:
            self.outbox.flush()
            head += text
            self.outbox.write(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))

    cdef int fail(self, int code, str reason) except -1:
        """End a connection whose peer broke the protocol (RFC 6455, 7.1.7); nothing it sends is read any more."""
        self.deaf = True
        self.close(code, reason)
        self._set_timer(LINGER_S, self.abort)
        self.session.connection_lost()
        return 0

    cdef int hang_up(self) except -1:
        """Both sides have said CLOSE: the server drops the socket first (RFC 6455, 7.1.1)."""
        self._transport.close()
        return 0

    cdef int peer_finished(self) except -1:
        """End the conversation: the peer will send nothing more, even if it still reads."""
        self.deaf = True
        self._shut()
        self._set_timer(self._shared.close_timeout_s, self.abort)
        self.session.connection_lost()
        return 0

    def abort(self):
        """Drop the socket without waiting for anything."""
        self.deaf = True
        self._shut()
        self._transport.abort()

    def look(self):
        """Look for traffic, four times an interval; ping after three looks without any."""
        if self.active or self.outbox._active:
            self.active = self.outbox._active = False
            self._quiet_looks = 0
        else:
            self._quiet_looks += 1
            if self._quiet_looks == QUIET_LOOKS:
                self._quiet_looks = 0
                self._send_control(WSMsgType.PING, b"", 0)
                if not self._awaits_pong and not self.outbox.closed:
                    self._awaits_pong = True
                    self._shared.unanswered.add(self)

    cpdef pause_writing(self):
        """The transport holds more than the high-water mark."""
        if not self.outbox.closed:
            self.outbox.set_writable(False)
            self._set_timer(self._shared.write_timeout_s, self._look_last)

    cpdef resume_writing(self):
        """The transport holds less than the low-water mark again."""
        if not self.outbox.closed and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.outbox._beyond = 0
            self.outbox.set_writable(True)

    cdef int drop_soon(self) except -1:
        """Drop the connection in the loop's next step: a turn that ends may be writing."""
        if not self._is_dropped:
            self._is_dropped = True
            self._shared.loop.call_soon(self._write_timed_out)
        return 0

    def _look_last(self):
        # Code may have blocked the loop, and the peer has read meanwhile.
        self._set_timer(LAST_LOOK_S, self._write_timed_out)

    def _write_timed_out(self):
        if self._gate is None:
            return
        self.session.write_timed_out()
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            reset_on_close(sock.fileno())  # the kernel would keep the unread bytes, and go on trying to deliver them
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
        """Send the last frame. Text that was put but not flushed is dropped: nothing may follow a CLOSE."""
        if self.outbox.closed:
            return 0
        self._send_control(WSMsgType.CLOSE, payload, size)
        self._shut()
        self._set_timer(self._shared.close_timeout_s, self.abort)
        return 0

    cdef int _set_timer(self, double delay_s, action) except -1:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._shared.loop.call_later(delay_s, action)
        return 0

    cdef SocketOutbox make_outbox(self, transport, int fd, Batch batch):
        return SocketOutbox(transport, fd, batch)

    cdef int _shut(self) except -1:
        self.outbox.closed = True
        self.outbox.drop()
        self.outbox.set_writable(True)
        return 0
