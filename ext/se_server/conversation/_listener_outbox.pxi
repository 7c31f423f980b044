# Writing: whole frames, straight to the socket.

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void* data, size_t size, int flags)
    enum: MSG_DONTWAIT

cdef extern from *:
    """
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    /* A close sends RST and discards what is unsent: SO_LINGER, socket(7). */
    static int reset_on_close(int fd) {
        struct linger at_once = {1, 0};
        return setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    """
    enum: MSG_NOSIGNAL
    int reset_on_close(int fd) nogil


cdef class SocketOutbox(Outbox):
    """Messages as WebSocket text frames, written straight to the socket while the transport holds nothing back."""

    def __init__(self, transport, int fd, Batch batch):
        self._transport = transport
        self._batch = batch
        self.fd = fd
        self._may_hold = True  # an answer in HTTP, before the upgrade
        self._active = False
        self._is_held = False
        self._buffer = None

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        if not self.closed:
            if self._buffer is None:
                self._buffer = borrow_buffer()
            self._buffer.put_agent_response_frame(content, event_id_json, is_final)
        return 0

    cdef int put_pong(self) except -1:
        if not self.closed and self.writable:  # no more pongs for a peer that pings and never reads
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
        if self._batch is not None and self._batch.holds and buffer.size <= MAX_HELD_BYTES:
            if not self._is_held:
                self._is_held = True
                self._batch.hold(self)
            return 0
        return self.write_out()

    cdef int write_out(self) except -1:
        cdef Buffer buffer = self._buffer
        if buffer is None:
            return 0
        self._is_held = False
        self._buffer = None
        try:
            self.write(buffer.data, buffer.size)
        finally:
            return_buffer(buffer)
        return 0

    cdef int give_up(self) except -1:
        self._transport.abort()
        return 0

    cdef void drop(self) noexcept:
        """Discard messages that were put and not flushed."""
        cdef Buffer buffer = self._buffer
        if buffer is not None:
            self._buffer = None
            self._is_held = False
            return_buffer(buffer)

    cdef int _count_beyond(self, Py_ssize_t size) except -1:
        """Count what is written although the peer reads too slowly: answers wait, and ends of turns are short."""
        cdef Connection connection
        gate = self._transport.get_protocol()
        connection = (<FrameGate>gate)._connection if isinstance(gate, FrameGate) else None
        if connection is not None:
            self._beyond += size
            if self._beyond > BEYOND_MARKS * connection._shared.high_water_bytes:
                connection.drop_soon()
        return 0

    cdef int write(self, const char* data, Py_ssize_t size) except -1:
        """Write bytes that are whole frames. After a close, or on a lost connection, they go nowhere."""
        if self._is_held:  # a control frame comes after what was said before it
            self.write_out()
        if self.closed:  # before the transport gives its descriptor back to the system
            return 0
        self._active = True
        cdef Py_ssize_t sent = 0
        if self.fd >= 0:  # not with TLS
            if self._may_hold:
                self._may_hold = self._transport.get_write_buffer_size() > 0
            if not self._may_hold:
                sent = c_send(self.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                if sent == size:
                    return 0
                if sent < 0:
                    sent = 0  # a full socket, or an error that the transport will meet and report itself
        if not self._transport.is_closing():
            self._may_hold = True
            if not self.writable:
                self._count_beyond(size - sent)
            self._transport.write(PyBytes_FromStringAndSize(data + sent, size - sent))
        return 0
