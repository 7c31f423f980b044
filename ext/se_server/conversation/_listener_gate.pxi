# What is read: each frame is checked (RFC 6455, 5.2) before picows gets it, one at a time.

cdef enum:
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

cdef dict _VIOLATIONS = {
    BAD_RSV: "reserved bits are set",
    BAD_OPCODE: "unknown opcode",
    BAD_MASK: "frame is not masked",
    BAD_CONTROL: "control frame is fragmented or longer than 125 bytes",
    BAD_LENGTH: "length is not in its shortest form",
}

cdef bytearray _scratch = bytearray(4096)


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


cdef bint ends_with_close(const unsigned char* data, Py_ssize_t count) noexcept:
    """Whether bytes are whole frames up to a CLOSE.

    Anything less strict would take the middle of a long message for one, and hang up on a peer that is still sending:
    the reset that follows costs it the reason that it was not going to read before its end.
    """
    cdef Py_ssize_t size
    while True:
        size = frame_bytes(data, count, count)
        if size <= 0 or size > count:
            return False
        if data[0] & 0x0F == WSMsgType.CLOSE:
            return size == count
        data += size
        count -= size


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
        elif ends_with_close(<const unsigned char*>PyByteArray_AS_STRING(_scratch), count):
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
        """Check the payload of a frame whose end has not arrived, from byte `seen` on, so that what is wrong fails at once.

        What completes a frame is not looked at here: then the whole message or fragment is checked, as any other is.
        """
        cdef unsigned char opcode = frame[0] & 0x0F
        cdef unsigned char mask[4]
        cdef unsigned char text[4096]
        cdef Py_ssize_t header, start, size, i
        if have < 6 or opcode > WSMsgType.BINARY:
            return 0
        header = 14 if frame[1] == 0xFF else 8 if frame[1] == 0xFE else 6
        if have <= header:
            return 0
        start = max(seen - header, 0)
        if start == 0:
            if self._connection.is_out_of_order(opcode):
                return self._connection.fail_order()
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
