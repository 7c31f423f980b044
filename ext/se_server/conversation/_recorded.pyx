"""Connections whose messages are put on the worker's tape. They are subclasses, so that others pay nothing for it."""

from se_server.conversation._batch cimport Batch
from se_server.conversation._listener cimport Connection, SocketOutbox
from se_server.telemetry._clock cimport Clock
from se_server.telemetry._tape cimport T_IN, T_OUT, Tape

cdef enum:
    HAS_HEAD = 8                                # two numbers in front of a message: see `RecordedConnection`


cdef class RecordedOutbox(SocketOutbox):
    cdef int write(self, const char* data, Py_ssize_t size) except -1:
        if not self.closed and self.tape is not None:
            if self._is_held:
                self.write_out()
            self.tape.put(T_OUT, self.number, data, size, self.clock.now())
        return SocketOutbox.write(self, data, size)


cdef class RecordedConnection(Connection):
    """A connection whose messages are recorded.

    A transcript repeats those before it. It is written without the entries that the last one had: in front of it stand
    the place at which they would begin, and the number of their bytes.
    """

    cdef SocketOutbox make_outbox(self, transport, int fd, Batch batch):
        return RecordedOutbox(transport, fd, batch)

    def record(self, Tape tape, unsigned int number, Clock clock):
        """Put what arrives and what is sent on a tape from now on."""
        self._tape, self._number, self._record_clock = tape, number, clock
        self.outbox.tape, self.outbox.number, self.outbox.clock = tape, number, clock

    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1:
        cdef Tape tape = self._tape
        cdef double now
        cdef unsigned int[2] head
        cdef bint was_closed = self.outbox.closed
        if tape is None or was_closed:
            return Connection._deliver(self, data, size, is_text)
        now = self._record_clock.now()
        self._history.place = -1
        try:
            return Connection._deliver(self, data, size, is_text)
        finally:
            head[0] = head[1] = 0
            if self._history.place >= 0:
                head[0] = <unsigned int> self._history.place
                if self._has_base and self._epoch == tape.epoch():
                    head[1] = <unsigned int> self._history.equal
            if tape.begin(T_IN, self._number, HAS_HEAD + size - head[1], now):
                tape.add(<const char*> head, HAS_HEAD)
                tape.add(data, head[0])
                tape.add(data + head[0] + head[1], size - head[0] - head[1])
                tape.end()
                if self._history.place >= 0:
                    self._has_base = True
                    self._epoch = tape.epoch()
            elif self._history.place >= 0:
                self._has_base = False
