"""A tap on the connection of an HTTP client: it reads the body of a response by callbacks, and gives it back.

httpx and httpcore read through a dozen layers of generators, timeouts and locks. While the body of an event stream runs
there is nothing to decide in them. So the transport's protocol is replaced for that time: the chunks of HTTP/1.1 (RFC
9112, 7.1) are read here, and all that is not the data of a chunk ends the tap: the client gets the connection in the
state that it left it in, with the rest of the bytes, and finishes the response itself.

With TLS the client's own TLS object, of anyio, decrypts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from se_server.streams._takeover cimport Takeover

from asyncio import get_running_loop

cdef enum:
    SIZE = 0
    DATA = 1
    CR = 2
    LF = 3
    MAX_HEAD_BYTES = 80         # a chunk's size with extensions; more is left to the client
    TLS_BYTES = 65536


cdef class Tap:
    def __cinit__(self, Takeover takeover, client):
        self.takeover = takeover
        self.client = client
        self.transport = client.transport
        self.protocol = client.protocol
        self.tls = client.tls
        self.timeout_s = client.read_timeout_s or 0.0
        self.head = bytearray()

    def skip(self, bytes data):
        """Read what the client has received already; return the size of the body in it, -1 if it ends in a chunk."""
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = 0
        if self.parse(at, at + PyBytes_GET_SIZE(data), None, &size) or self.state != SIZE or self.head:
            return -1
        return size

    def begin(self):
        """Take the connection over."""
        self.loop = get_running_loop()
        self.is_on = True
        self.transport.set_protocol(self)
        if self.tls is not None:
            self.decrypted(b"")
        for data in self.client.received():
            if self.is_on:
                self.data_received(data)
            else:
                self.protocol.data_received(data)
        if self.is_on and self.timeout_s > 0:
            self.last_at = self.loop.time()
            self.timer = self.loop.call_later(self.timeout_s, self.look)

    def resume(self):
        """Read on: the task waits for texts."""
        if self.is_on and not self.is_reading:
            self.is_reading = True
            self.last_at = self.loop.time()
            self.transport.resume_reading()

    def wait(self, waiter):
        """Return the iterator of the wait for a future."""
        return waiter.__await__()

    def leave(self):
        """Give the connection back as it is, for it to be closed."""
        self.restore(b"", None, False)

    def fail(self, error):
        """Raise an exception that came while the task waited."""
        raise error

    def look(self):
        """Have the client's timeout raised if nothing was received for so long."""
        cdef double rest_s = self.last_at + self.timeout_s - self.loop.time()
        if not self.is_on:
            return
        if rest_s <= 0 and self.is_reading:
            self.give_back(b"", self.client.timeout())
        else:
            self.timer = self.loop.call_later(rest_s if self.is_reading else self.timeout_s, self.look)

    # --- the protocol of the transport -------------------------------------------------------------------------------

    def connection_made(self, transport):
        pass

    def data_received(self, data):
        if type(data) is not bytes:
            data = bytes(data)
        self.last_at = self.loop.time()
        try:
            if self.tls is None:
                self.received(data)
            else:
                self.decrypted(data)
        except BaseException as error:
            self.takeover.failure = error
            self.takeover.wake()

    def eof_received(self):
        keeps = self.protocol.eof_received()
        self.give_back(b"", None)
        return keeps

    def connection_lost(self, error):
        self.protocol.connection_lost(error)
        self.is_reading = False
        self.give_back(b"", None)

    def pause_writing(self):
        self.protocol.pause_writing()

    def resume_writing(self):
        self.protocol.resume_writing()

    # --- the body ----------------------------------------------------------------------------------------------------

    cdef int decrypted(self, bytes data) except -1:
        tls = self.tls
        if data:
            tls.incoming.write(data)
        while self.is_on:
            try:
                plain = tls.object.read(TLS_BYTES)
            except OSError as error:  # of the package ssl
                if type(error).__name__ != "SSLWantReadError":
                    self.give_back(b"", None)  # the client meets it again
                break
            if not plain:
                self.give_back(b"", None)
                break
            self.received(plain)
        if tls.outgoing.pending:
            self.transport.write(tls.outgoing.read())
        return 0

    cdef int received(self, bytes data) except -1:
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = 0
        cdef list texts = []
        cdef bint ends = self.parse(at, at + PyBytes_GET_SIZE(data), texts, &size)
        if texts:
            self.takeover.receive(texts)
            if self.is_reading and self.takeover.ready:
                self.is_reading = False
                self.transport.pause_reading()
        if ends:
            self.give_back(data[size:], None)
        return 0

    cdef bint parse(self, const unsigned char* at, const unsigned char* end, list texts, Py_ssize_t* size) except -1:
        """Read chunks; whether the rest is the client's.

        Args:
            texts: takes their texts; None: their data is passed over.
            size: is set to the bytes that were read where the rest is the client's, or else, without `texts`, to the
                size of the data.
        """
        cdef const unsigned char* begin = at
        cdef Py_ssize_t count
        cdef Py_ssize_t passed = 0
        while at < end:
            if self.state == DATA:
                count = min(self.left, end - at)
                passed += count
                self.left -= count
                self.last = at[count - 1]
                if self.left == 0:
                    self.state = CR
                if texts is not None:
                    texts += self.takeover.take(at, count, None)
                    if self.takeover.scanner.is_over:
                        size[0] = at + count - begin
                        return True
                at += count
            elif self.state == SIZE:
                self.head.append(at[0])
                at += 1
                if (at - 1)[0] == c"\n":
                    self.left = size_of(self.head)
                    if self.left <= 0:
                        size[0] = at - begin
                        return True
                    self.head.clear()
                    self.state = DATA
                elif len(self.head) > MAX_HEAD_BYTES:
                    size[0] = at - begin
                    return True
            elif at[0] != (c"\r" if self.state == CR else c"\n"):
                size[0] = at - begin
                return True
            else:
                self.state = LF if self.state == CR else SIZE
                at += 1
        if texts is None:
            size[0] = passed
        return False

    cdef int give_back(self, bytes rest, object error) except -1:
        cdef bint takes_back = self.state == CR or self.state == LF
        if self.is_on:
            self.restore(rest, error, takes_back)
            self.takeover.tap_ended(error, takes_back)
        return 0

    cdef int restore(self, bytes rest, object error, bint takes_back) except -1:
        """Give the connection back, and the bytes from where the client's own parser stands."""
        if not self.is_on:
            return 0
        self.is_on = False
        if self.timer is not None:
            self.timer.cancel()
        self.client.restore(self.is_reading)
        self.is_reading = False
        if self.state == SIZE:
            rest = bytes(self.head) + rest
        elif self.state == DATA:
            rest = b"%x\r\n" % self.left + rest
        else:
            # The client has to see the end of a chunk: it gets the last byte of it once more.
            rest = b"1\r\n%c" % self.last + (b"\r" if self.state == LF else b"") + rest
        if rest:
            self.client.receive(rest)
        return 0


cdef Py_ssize_t size_of(bytearray head) except -2:
    """The size in the first line of a chunk; -1 if it is for the client to judge."""
    digits = bytes(head).rstrip(b"\r\n").partition(b";")[0].rstrip(b" \t")
    if not 0 < len(digits) <= 12 or digits.strip(b"0123456789abcdefABCDEF"):
        return -1
    return int(digits, 16)
