"""A tap on a connection of aiohttp: it reads the chunks of a response's body beside aiohttp's parser.

aiohttp makes a timer, a future and two steps of the event loop of each piece that it receives. Its protocol is replaced
while an event stream runs, as that of httpcore is. Its parser tells nobody where it stands in the bytes, however. So
the tap passes them on to it until they end with a blank line and the end of a chunk, and the reader has counted that
chunk: the parser stands before the next one then, and need not see those that follow.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

from se_server.streams._tap cimport Tap

from asyncio import get_running_loop


cdef class ReaderTap(Tap):
    cdef object content         # aiohttp's reader of the body
    cdef bint is_attached       # the transport calls the tap
    cdef bint is_over           # it has given the connection back
    cdef bint stands_at_chunk   # aiohttp's parser expects the size of a chunk

    def __cinit__(self, takeover, client):
        self.content = client.content

    def may_begin(self):
        """Whether all that was received is read, and the next bytes are those of a chunk's size."""
        if not self.is_attached and not self.is_over:
            self.is_over = self.transport.is_closing() or self.content.is_eof()
            if not self.is_over:
                self.is_attached = True
                self.transport.set_protocol(self)
        return self.stands_at_chunk and self.client.is_read()

    def begin(self):
        """Read the connection in place of aiohttp."""
        self.loop = get_running_loop()
        self.is_on = self.is_reading = True
        self.client.stop_timeout()
        if self.timeout_s > 0:
            self.last_at = self.loop.time()
            self.timer = self.loop.call_later(self.timeout_s, self.look)

    def wait(self, waiter):
        """Wait as the reader does: the limit of the whole request holds."""
        return self.client.wait(waiter)

    def leave(self):
        """Give the connection back as it is, for it to be closed."""
        Tap.leave(self)
        self.detach()

    def fail(self, error):
        """Give the connection back, and have the package get an exception."""
        self.give_back(b"", error)

    def look(self):
        """Have aiohttp's own timeout raised if nothing was received for so long."""
        cdef double rest_s = self.last_at + self.timeout_s - self.loop.time()
        if not self.is_on:
            return
        if rest_s <= 0 and self.is_reading:
            self.client.time_out = True
            self.give_back(b"", None)
        else:
            self.timer = self.loop.call_later(rest_s if self.is_reading else self.timeout_s, self.look)

    def data_received(self, data):
        if self.is_on:
            Tap.data_received(self, data)
            return
        self.stands_at_chunk = False
        self.protocol.data_received(data)
        if self.content.is_eof():
            self.detach()
        else:
            self.stands_at_chunk = not self.is_over and ends_event(bytes(data)) and self.client.has_counted_chunk()

    def eof_received(self):
        self.give_back(b"", None)
        return self.protocol.eof_received()

    def connection_lost(self, error):
        self.is_reading = True  # a transport that was paused need not go on
        self.give_back(b"", None)
        self.protocol.connection_lost(error)
        self.client.end_reader()

    cdef int detach(self) except -1:
        self.is_over = True
        if self.is_attached:
            self.is_attached = self.stands_at_chunk = False
            self.transport.set_protocol(self.protocol)
        return 0

    cdef int restore(self, bytes rest, object error, bint takes_back) except -1:
        # The transport goes on to call the tap: aiohttp does not always end a reader whose connection is lost.
        if self.is_on:
            self.is_over = True
            self.stands_at_chunk = False
            Tap.restore(self, rest, error, takes_back)
            self.client.start_timeout()
        return 0


cdef bint ends_event(bytes data) noexcept:
    """Whether bytes end with a blank line that ends a chunk; no chunk's size ends so."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const char* end = PyBytes_AS_STRING(data) + size
    if size >= 6 and memcmp(end - 6, b"\r\n\r\n\r\n", 6) == 0:
        return True
    return size >= 4 and memcmp(end - 4, b"\n\n\r\n", 4) == 0
