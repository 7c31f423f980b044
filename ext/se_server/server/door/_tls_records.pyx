"""A limit on the records of TLS that carry little or nothing, read from their headers, which are not encrypted."""

from se_server.conversation._rate cimport FRAGMENT_WORK, Bucket, take
from se_server.conversation._steps cimport Steps, steps_of

cdef enum:
    HEADER_BYTES = 5            # type, version, length (RFC 8446, section 5.1)
    APPLICATION_DATA = 23
    # A record of at most so many bytes has room for five bytes of text, and no WebSocket frame of a client is so short.
    # A request for new keys has as many, and costs 8 us on either side (RFC 8446, section 4.6.3).
    EMPTY_BYTES = 22
    EMPTY_WORK = 65536          # 122 a second, and 244 at once
    SHORT_BYTES = 256
    # Encrypted bytes that cost as much as one byte of a message.
    BYTES_PER_UNIT = 2

cdef double BURST_S = 2.0       # as of the budget of a conversation


cdef class RecordLimit:
    """Counts the short records of one connection."""

    cdef Bucket _bucket
    cdef double _rate
    cdef double _burst
    cdef int _seen              # bytes of the next header
    cdef int _kind
    cdef Py_ssize_t _length
    cdef Py_ssize_t _left       # bytes of the current record that are still to come
    cdef Steps _steps

    def __init__(self, double rate, loop):
        cdef double now = loop.time()
        self._steps = steps_of(loop, rate)
        self._rate = rate
        self._burst = rate * BURST_S
        self._bucket.tokens = self._burst
        self._bucket.counted_at = now

    def admit(self, const unsigned char[:] data, Py_ssize_t size, double now):
        cdef Py_ssize_t place = 0, part, work = 0
        while place < size:
            if self._left:
                part = min(self._left, size - place)
                self._left -= part
                place += part
                continue
            if self._seen == 0:
                self._kind = data[place]
            elif self._seen == HEADER_BYTES - 2:
                self._length = data[place] << 8
            elif self._seen == HEADER_BYTES - 1:
                self._left = self._length = self._length | data[place]
                if self._kind != APPLICATION_DATA or self._length <= EMPTY_BYTES:
                    work += EMPTY_WORK
                elif self._length < SHORT_BYTES:
                    work += FRAGMENT_WORK
            self._seen = (self._seen + 1) % HEADER_BYTES
            place += 1
        return work == 0 or take(&self._bucket, work, self._rate, self._burst, now)

    def charge(self, Py_ssize_t size, go_on):
        self._steps.charge(size // BYTES_PER_UNIT)
        if self._steps.left > 0:
            return False
        self._steps.wait(go_on, False)
        return True
