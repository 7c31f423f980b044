"""picows' part: one protocol object for all connections of a door.

It gets whole, checked frames, so it keeps no state of a connection: an idle connection has no read buffer, and memory
for a large message is freed.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memcpy
from picows.picows cimport WSFrame, WSListener, WSTransport

import logging

from picows.picows import WSAutoPingStrategy, WSProtocol

cdef enum:
    # The most bytes of one read inside a fragmented message: a read of tiny fragments must not delay others.
    PARTS_READ_MAX = 4 * 1024
    FRAMER_BUFFER = 256 * 1024     # grows for a larger frame, and shrinks after it

# The request head that picows gets before the first frame; the door answers the real ones.
cdef bytes _HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)

cdef object _log = logging.getLogger("se_server.connection")


class _PicowsLog:
    """Pass on only records that point to a bug of ours; picows logs every connection and every protocol error."""

    def isEnabledFor(self, level):
        return False

    def _ignore(self, *_args):
        pass

    debug = info = log = error = warning = _ignore

    def exception(self, message, *args):
        _log.exception(message, *args)


class _Nowhere:
    """The transport and socket below picows' protocol: they discard everything that picows sends."""

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
    """Unmasks frames one at a time, and returns each after picows has finished, so that no exception crosses picows."""

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
        transport.close_handshake = None  # a CLOSE ends one connection, not this protocol
        self._frame = frame

    cdef WSFrame read(self, Py_ssize_t size):
        """Return the frame at `data`; its payload is valid until the next read."""
        self._buffer_updated(size)
        return self._take()

    cdef WSFrame copy(self, const char* data, Py_ssize_t size):
        """Return a frame from another place; its payload is valid until the next read."""
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
        """Free the memory of a large frame, after its payload was read."""
        view = self._get_buffer(-1)
        if PyMemoryView_GET_BUFFER(view).len > FRAMER_BUFFER:
            self._start()
        return 0
