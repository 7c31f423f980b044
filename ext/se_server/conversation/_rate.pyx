"""The limits of what a peer may send, and of the work that it makes, for Python."""

from weakref import WeakKeyDictionary

cdef enum:
    # Bytes of unfinished messages in all connections of a loop.
    MOST_UNFINISHED = 64 * 1024 * 1024

# Seconds of the budget that may be used at once.
cdef double BURST_S = 2.0

# The part of the budget beyond which a conversation makes much work. A turn a second with 200 KB is a quarter of it.
cdef double MUCH = 0.125


cdef class Rate:
    """The rate of messages."""

    cdef Bucket _bucket
    cdef double _rate
    cdef double _burst

    def __init__(self, double rate, double burst, double now):
        self._rate = rate
        self._burst = burst
        self._bucket.tokens = burst
        self._bucket.counted_at = now

    def take(self, double now):
        return take(&self._bucket, 1, self._rate, self._burst, now)


cdef class Budget:
    """The work that one peer may make."""

    def __init__(self, double rate, double patience_s, double now):
        self._rate = rate
        self._burst = rate * BURST_S
        self._patience_s = patience_s
        self._bucket.tokens = self._burst
        self._recent.tokens = self._burst * MUCH
        self._bucket.counted_at = self._recent.counted_at = now

    cpdef double take(self, double units, double now):
        """Count work that was done.

        Returns:
            The seconds for which nothing more should be read; negative if the budget was used up for too long.
        """
        self.note_recent(units, now)
        if take(&self._bucket, units, self._rate, self._burst, now):
            if self._bucket.tokens >= self._burst / 2:
                self._over_since = 0
            return 0
        if self._over_since == 0:
            self._over_since = now
        elif now - self._over_since > self._patience_s:
            return -1
        return -self._bucket.tokens / self._rate


    cdef bint note_recent(self, double units, double now):
        """Note work, and return whether it is much for a conversation; two seconds without any end that."""
        cdef double most = self._burst * MUCH
        self.is_heavy = not take(&self._recent, units, self._rate * MUCH, most, now)
        self._recent.tokens = max(self._recent.tokens, -most)
        return self.is_heavy


def work_of(Py_ssize_t size, Py_ssize_t entries):
    """Return the units of work of a message: of its bytes, and of the entries that were decoded."""
    return MESSAGE_WORK + size + ENTRY_WORK * entries


cdef class Unfinished:
    """The unfinished messages of all connections of a loop, which share a bound on their bytes."""

    def __cinit__(self, Py_ssize_t max_message_bytes):
        self._sizes = {}
        self._most = max(<Py_ssize_t>MOST_UNFINISHED, 8 * max_message_bytes)

    cdef object note(self, connection, Py_ssize_t size):
        """Note the size of a connection's unfinished message.

        Returns:
            The connection whose message has been unfinished longest, if all of them are too large; else None.
        """
        cdef Py_ssize_t before = self._sizes.get(connection, 0)
        if size < FEW_UNFINISHED:
            size = 0
        self._total += size - before
        if size:
            self._sizes[connection] = size
        elif before:
            del self._sizes[connection]
        return next(iter(self._sizes)) if self._total > self._most else None


cdef object _unfinished = WeakKeyDictionary()


cdef Unfinished unfinished_of(loop, Py_ssize_t max_message_bytes):
    """Return the unfinished messages of a loop, the same for all its doors."""
    unfinished = _unfinished.get(loop)
    if unfinished is None:
        unfinished = _unfinished[loop] = Unfinished(max_message_bytes)
    return unfinished
