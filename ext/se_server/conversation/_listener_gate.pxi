# Reading: each frame is checked (RFC 6455, 5.2) before picows gets it, one at a time.

cdef extern from *:
    """
    #define SE_NOT_ASCII 0x8080808080808080ULL
    """
    const unsigned long long NOT_ASCII "SE_NOT_ASCII"  # the top bit of each byte

cdef enum:
    # Results of frame_bytes() that are not sizes.
    HEAD_INCOMPLETE = 0
    BAD_RSV = -1
    BAD_OPCODE = -2
    BAD_MASK = -3
    BAD_CONTROL = -4
    BAD_LENGTH = -5
    TOO_BIG = -6

    # Frames of one connection that are handled in one step of the event loop; the rest waits for the next one.
    FRAMES_PER_STEP = 64

    # Bytes of one read that never wait for a step with less work.
    SMALL_READ = 4096
    # Bytes that are only copied, to be read later, for one that is read.
    COPIES_PER_READ = 8

    # No state of utf8_check(): the payload is not text.
    TEXT_UNCHECKED = 255

cdef dict _VIOLATIONS = {
    BAD_RSV: "reserved bits are set",
    BAD_OPCODE: "unknown opcode",
    BAD_MASK: "frame is not masked",
    BAD_CONTROL: "control frame is fragmented or longer than 125 bytes",
    BAD_LENGTH: "length is not in its shortest form",
}

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

    A less strict check would mistake the middle of a long message for frames, and hang up on a peer that still sends:
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


cdef int put(Buffer buffer, const char* data, Py_ssize_t count) except -1:
    buffer.reserve(count)
    memcpy(buffer.data + buffer.size, data, count)
    buffer.size += count
    return 0


cdef class _ProtocolBase:
    # asyncio wants a subclass of its BufferedProtocol, and Cython a compiled first base.
    pass


cdef class FrameGate(_ProtocolBase, asyncio.BufferedProtocol):
    """The protocol of an accepted socket: of HTTP until the upgrade, then each frame is checked and read.

    It stays the transport's protocol throughout: for another one uvloop would unregister the socket and register it.

    Args:
        shared: of the door's connections.
        http: an `asyncio.Protocol`, called until `Connection.start`.
    """

    cdef Framer _framer
    cdef object _http
    cdef Connection _connection
    cdef Buffer _part           # the start of a frame whose end has not come
    cdef unsigned int _utf8     # the state after its payload, if that is text
    cdef bint _is_held          # nothing is read, and `_part` has what was
    cdef bint _is_paused        # the transport is: also while held frames are read
    cdef Py_ssize_t _seen       # bytes of it that were checked before

    data_received = None  # uvloop would keep the attribute of this name for as long as the transport lives

    def __init__(self, Shared shared not None, http):
        self._framer = shared.framer
        self._http = http

    def get_buffer(self, _size_hint):
        # Between two reads the buffer is empty: code that needs the bytes later copies them.
        if self._connection is not None and self._connection._fragments is not None:
            return self._framer.small_view
        return self._framer.view

    def buffer_updated(self, Py_ssize_t count):
        cdef char* data = self._framer.data
        cdef Connection connection = self._connection
        cdef Py_ssize_t work = count
        if connection is None:
            self._http.data_received(PyBytes_FromStringAndSize(data, count))
        elif not connection.deaf:
            connection.active = True
            if self._is_held:  # TLS may have decrypted it before
                self._keep_rest(data, count)
                work = count // COPIES_PER_READ
            elif self._must_wait(connection, data, count):
                self._seen = 0 if self._part is None else self._part.size
                self._keep_rest(data, count)
                self.hold(0)
                work = count // COPIES_PER_READ
            else:
                self._read(data, count)
            if self._part is not None or connection._fragments is not None or connection.is_noted:
                if count >= SMALL_READ:
                    connection._shared.steps.charge(work)
                self._note_unfinished(connection)
        else:
            self._part = None
            if ends_with_close(<const unsigned char*>data, count):
                connection.hang_up()

    def connection_made(self, transport):
        self._http.connection_made(transport)

    def connection_lost(self, exc):
        cdef Connection connection = self._connection
        cdef Steps steps
        self._connection = None
        http, self._http = self._http, None
        self._part = None
        if connection is None:
            return http.connection_lost(exc)
        steps = connection._shared.steps
        if steps.left > 0:
            steps.charge(LEAVE_WORK)
            connection.lost()
        else:
            # Thousands may leave in one step. The socket's number may be another's from now on.
            connection.deaf = True
            connection._shut()
            steps.wait(connection.leave, False)

    def eof_received(self):
        cdef Connection connection = self._connection
        cdef Steps steps
        if connection is not None:
            steps = connection._shared.steps
            if steps.left > 0:
                steps.charge(LEAVE_WORK)
                connection.peer_finished()
            else:
                connection.deaf = True
                connection._shut()
                steps.wait(self._finish, False)
        return False  # the transport closes itself, once it has written what it holds

    def _finish(self):
        if self._connection is not None:
            self._connection._shared.steps.charge(LEAVE_WORK)
            self._connection.peer_finished()

    def pause_writing(self):
        if self._connection is not None:
            self._connection.pause_writing()
        else:
            self._http.pause_writing()

    def resume_writing(self):
        if self._connection is not None:
            self._connection.resume_writing()

    cdef int open(self, Connection connection) except -1:
        """Switch from HTTP to frames, which go to the connection."""
        self._connection = connection
        self._http = None
        return 0

    cdef int _note_unfinished(self, Connection connection) except -1:
        cdef Py_ssize_t size = 0 if self._part is None else self._part.size
        if connection._fragments is not None:
            size += len(connection._fragments)
        if size >= FEW_UNFINISHED or connection.is_noted:
            connection.note_unfinished(size if not connection.deaf else 0)
        return 0

    cdef int hold(self, double pause_s) except -1:
        """Read nothing for a while, at least until the loop's next step."""
        if not self._is_held:
            self._is_held = True
            if not self._is_paused:
                self._is_paused = True
                self._connection._transport.pause_reading()
            if pause_s > 0:
                self._connection._shared.loop.call_later(pause_s, self._wait_for_step)
            else:
                self._wait_for_step()
        return 0

    cdef bint _must_wait(self, Connection connection, const char* data, Py_ssize_t count) except -1:
        """Whether bytes wait for a step with less work."""
        cdef Shared shared = connection._shared
        cdef Budget budget = connection._budget
        if budget is not None and budget.is_heavy and shared.steps.is_crowded():
            if budget.note_recent(0, shared.loop.time()):
                return True
        if shared.steps.left > 0:
            return False
        return (count > SMALL_READ or self._part is not None or connection._fragments is not None
                or data[0] & 0x0F == WSMsgType.CLOSE)

    cpdef _wait_for_step(self):
        cdef Connection connection = self._connection
        if connection is None:
            self._is_held = False
        else:
            connection._shared.steps.wait(self._go_on, connection._budget is not None and connection._budget.is_heavy)

    cdef int _keep_rest(self, const char* data, Py_ssize_t count) except -1:
        """Keep frames until reading goes on."""
        if self._part is None:
            self._part = Buffer()
        put(self._part, data, count)
        return 0

    def _go_on(self):
        cdef Connection connection = self._connection
        cdef Buffer part = self._part
        cdef Py_ssize_t seen = self._seen
        if connection is not None and connection.is_full and not connection.deaf:
            connection._shared.loop.call_later(FULL_LOOK_S, self._wait_for_step)
            return
        self._is_held = False
        self._seen = 0
        if connection is None:
            return
        if part is not None:
            self._part = None
            if not connection.deaf:
                if part.size - seen >= SMALL_READ:
                    connection._shared.steps.charge(part.size - seen)
                if connection._core is not None and connection._core._ring is not None:
                    connection._core._ring.doubt()
                self.feed(part.data, part.size, seen)
                if connection.is_noted:
                    self._note_unfinished(connection)
        if not self._is_held and not connection._transport.is_closing():
            self._is_paused = False
            connection._transport.resume_reading()

    cdef int _read(self, char* data, Py_ssize_t count) except -1:
        """Handle `count` bytes that were read into picows' buffer."""
        cdef Buffer part = self._part
        cdef Py_ssize_t size, seen
        cdef bytes rest
        if part is not None:
            seen = part.size
            put(part, data, count)
            size = self._check(part.data, part.size)
            if 0 < size <= part.size:
                self._part = None
                self.feed(part.data, part.size)
            elif size >= 0:
                self._check_part(<const unsigned char*>part.data, seen, part.size)
            return 0
        size = self._check(data, count)
        if size < 0:
            return 0
        if size == HEAD_INCOMPLETE or size > count:
            return self._keep(data, count)
        # Several frames in one read: copy the next ones, since picows reuses their place.
        rest = PyBytes_FromStringAndSize(data + size, count - size) if size < count else None
        self._connection.receive_frame(self._framer.read(size))
        return 0 if rest is None else self.feed(PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))

    cdef int feed(self, const char* data, Py_ssize_t count, Py_ssize_t seen=0) except -1:
        """Handle bytes in another place, which begin with the start of a frame; `seen` of them were checked."""
        cdef Py_ssize_t size
        cdef int frames = 0
        while count and not self._connection.deaf:
            if frames == FRAMES_PER_STEP:
                self.hold(0)
            if self._is_held:
                return self._keep_rest(data, count)
            frames += 1
            size = self._check(data, count)
            if size < 0:
                return 0
            if size == HEAD_INCOMPLETE or size > count:
                return self._keep(data, count, seen)
            seen = 0
            self._connection.receive_frame(self._framer.copy(data, size))
            if size > READ_MAX:
                self._framer.settle()
            data += size
            count -= size
        return 0

    cdef int _keep(self, const char* data, Py_ssize_t count, Py_ssize_t seen=0) except -1:
        """Keep the start of a frame until its end arrives."""
        self._check_part(<const unsigned char*>data, seen, count)
        if not self._connection.deaf:
            self._part = Buffer()
            put(self._part, data, count)
        return 0

    cdef Py_ssize_t _check(self, const char* data, Py_ssize_t have) except -100:
        """Return the frame's size, HEAD_INCOMPLETE, or a negative number after the connection was failed."""
        cdef const unsigned char* head = <const unsigned char*>data
        cdef Py_ssize_t size = frame_bytes(head, have, self._connection._shared.max_message_bytes)
        if size < 0:
            if size == TOO_BIG:
                self._connection.fail(close_codes.TOO_BIG, "message is too big")
            else:
                self._connection.fail(close_codes.PROTOCOL_ERROR, _VIOLATIONS[size])
                if head[0] & 0x0F == WSMsgType.CLOSE:
                    self._connection.hang_up()
        elif 0 < size <= have and head[0] & 0x0F == WSMsgType.CLOSE:
            size = self._check_close(head, size)
        return size

    cdef int _check_part(self, const unsigned char* frame, Py_ssize_t seen, Py_ssize_t have) except -1:
        """Check the payload of a frame whose end has not arrived, from byte `seen` on, so that errors fail it at once.

        What completes a frame is not looked at here: then the whole message or fragment is checked, as any other is.
        """
        cdef unsigned char opcode = frame[0] & 0x0F
        cdef unsigned char mask[8]
        cdef unsigned char text[4096]
        cdef unsigned long long masks, word, seen_bits
        cdef Py_ssize_t header, start, size, whole, i
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
            for i in range(8):
                mask[i] = (frame - 4)[(start + i) & 3]
            memcpy(&masks, mask, 8)
            whole = size & ~7
            seen_bits = 0
            for i in range(0, whole, 8):
                memcpy(&word, frame + start + i, 8)
                word ^= masks
                seen_bits |= word
                memcpy(text + i, &word, 8)
            for i in range(whole, size):
                text[i] = frame[start + i] ^ mask[i & 7]
                seen_bits |= text[i]
            if seen_bits & NOT_ASCII or self._utf8 != UTF8_ACCEPT:
                self._utf8 = utf8_check(self._utf8, text, size)
                if self._utf8 == UTF8_REJECT:
                    return self._connection.fail(close_codes.INVALID_TEXT, "text is not UTF-8")
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
            return self._refuse_close(close_codes.PROTOCOL_ERROR, "invalid close code")
        if utf8_check(UTF8_ACCEPT, payload + 2, length - 2) != UTF8_ACCEPT:
            return self._refuse_close(close_codes.INVALID_TEXT, "close reason is not UTF-8")
        return size

    cdef Py_ssize_t _refuse_close(self, int code, str reason) except -100:
        self._connection.fail(code, reason)
        self._connection.hang_up()
        return BAD_CONTROL
