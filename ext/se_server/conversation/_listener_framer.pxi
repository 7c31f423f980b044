# picows' part: one protocol object for all connections of a door. It gets whole frames that were checked, so that nothing
# of a connection stays in it: an idle one has no read buffer, and what a large message needed is nobody's for good.

cdef enum:
    READ_MAX = 64 * 1024           # the most bytes of one read
    PARTS_READ_MAX = 4 * 1024      # the same inside a fragmented message: a read of tiny fragments must not delay others
    FRAMER_BUFFER = 256 * 1024     # grows with a larger frame, and is given back then

# The head picows gets before the first frame: the real ones are answered by us.
cdef bytes _HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


class _PicowsLog:
    """picows tells every connection and every protocol error; only what would be a bug of ours is worth a line."""

    def isEnabledFor(self, level):
        return False

    def _ignore(self, *_args):
        pass

    debug = info = log = error = warning = _ignore

    def exception(self, message, *args):
        _log.exception(message, *args)


class _Nowhere:
    """The transport below picows' protocol, and its socket: what picows would send goes nowhere."""

    def get_extra_info(self, name):
        return self if name == "socket" else None

    def fileno(self):
        return -1

    def getsockopt(self, *_args):
        return 0

    def _ignore(self, *_args):
        return 0

    setsockopt = get_write_buffer_size = write = write_eof = can_write_eof = close = abort = _ignore


cdef object _picows_log = _PicowsLog()


cdef class Framer(WSListener):
    """Unmasks frames, one at a time, and hands each out when picows is done with it: no exception crosses picows."""

    def __cinit__(self):
        self._start()

    cdef int _start(self) except -1:
        protocol = WSProtocol(
            None, None, False, self._give_itself, _picows_log, True, None, False, 1, 1,
            WSAutoPingStrategy.PING_WHEN_IDLE, False, PY_SSIZE_T_MAX, None, FRAMER_BUFFER,
        )
        protocol.connection_made(_Nowhere())
        self._get_buffer = protocol.get_buffer
        self._buffer_updated = protocol.buffer_updated
        self._fill(PyBytes_AS_STRING(_HEAD), PyBytes_GET_SIZE(_HEAD))
        view = self._get_buffer(-1)
        self.view, self.small_view = view[:READ_MAX], view[:PARTS_READ_MAX]
        self.data = <char*>PyMemoryView_GET_BUFFER(view).buf
        return 0

    def _give_itself(self, _request):
        return self

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        transport.close_handshake = None  # a CLOSE is not the last frame here, but that of one connection
        self._frame = frame

    cdef WSFrame read(self, Py_ssize_t size):
        """Return the frame that stands at `data`; its payload is there until the next read."""
        self._buffer_updated(size)
        return self._take()

    cdef WSFrame copy(self, const char* data, Py_ssize_t size):
        """Return a frame that stands elsewhere, likewise."""
        self._fill(data, size)
        return self._take()

    cdef WSFrame _take(self):
        frame, self._frame = self._frame, None
        if frame is None:
            self._start()
            raise AssertionError("picows refuses what the frame gate let through")
        return frame

    cdef int _fill(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        while size:
            view = self._get_buffer(size)
            room = min(PyMemoryView_GET_BUFFER(view).len, size)
            memcpy(PyMemoryView_GET_BUFFER(view).buf, data, room)
            self._buffer_updated(room)
            data += room
            size -= room
        return 0

    cdef int settle(self) except -1:
        """Give back what a large frame needed; called when its payload was read."""
        view = self._get_buffer(-1)
        if PyMemoryView_GET_BUFFER(view).len > FRAMER_BUFFER:
            self._start()
        return 0
