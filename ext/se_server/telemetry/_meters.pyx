"""The figures that metrics show: counts, and histograms with fixed buckets, in memory that other processes may read.

Every figure is one aligned 8-byte integer with one writer, so that readers need no lock and a killed process loses
nothing. The bounds of a histogram's buckets double from one to the next: finding a bucket is a division and the position
of a bit. A histogram takes two cache lines.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free

cdef extern from *:
    """
    #define se_meter_bits(value) ((value) > 0 ? 64 - __builtin_clzll((unsigned long long)(value)) : 0)
    """
    int se_meter_bits(int64_t value) nogil

cdef enum:
    C_BOUNDS = 14
    C_ROW = 16                                  # the counts below each bound, those beyond all of them, and the sum
    C_MAX = 1_000_000_000_000_000               # microseconds: 31 years, so that no conversion overflows

# The first bound of each histogram, in microseconds; as many as `Distribution` has.
cdef int64_t[11] UNITS_US = [
    10_000, 10_000, 100, 10_000, 10_000, 10_000, 100_000, 100, 1_000_000, 1_000_000, 100,
]

BOUNDS = C_BOUNDS
HISTOGRAM_UNITS_S = tuple([unit_us / 1e6 for unit_us in UNITS_US])
COUNT_NAMES = (
    "conversations", "turns", "answered", "interrupted", "superseded", "failed", "timed_out", "empty", "closed",
    "silent", "wasted_by_interruption", "wasted_by_end", "input_tokens", "output_tokens", "strays_ended",
)
HISTOGRAM_NAMES = (
    "first_text", "first_filler", "handler_wait", "provider", "thinking", "longest_gap", "turn", "yield",
    "conversation", "conversation_turns", "handshake",
)
CAUSES = (
    "close_message", "peer", "server", "protocol_error", "ping_timeout", "write_timeout", "lost", "worker_died",
    "other",
)
CODES = (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012)
REFUSALS = (
    "malformed request", "several Host headers", "Host is not a host with or without a port",
    "upgrade without a Host header",
    "a Sec-WebSocket header that may come once came twice", "no valid Sec-WebSocket-Key", "token refused",
    "required header missing or wrong", "address not allowed", "upgrade on an unknown path", "method not allowed",
    "no whole request head in time", "request with a body", "Sec-WebSocket-Version is not 13",
    "request head too large", "too many headers", "too many items in Connection or Upgrade", "out of descriptors",
    "no such path",
    "no WebSocket upgrade on the WebSocket path", "saturated (max_sessions)", "saturated (max_pending_handshakes)",
    "saturated (max_turns)", "saturated (shed_loop_lag_s)", "no PROXY header", "no TLS handshake",
    "cannot accept connections", "too many failed handshakes of one address",
)
RESTARTS = ("crash", "hang", "recycle", "operator")
UPGRADES = ("succeeded", "failed")

_PLACE_OF_CAUSE = {name: place for place, name in enumerate(CAUSES)}
_PLACE_OF_CODE = {code: place for place, code in enumerate(CODES)}
_PLACE_OF_REFUSAL = {name: place for place, name in enumerate(REFUSALS)}

HISTOGRAMS_AT = int(C_COUNTS)
CLOSES_AT = HISTOGRAMS_AT + D_DISTRIBUTIONS * C_ROW
REFUSALS_AT = CLOSES_AT + len(CAUSES) * (len(CODES) + 1)
RESTARTS_AT = REFUSALS_AT + len(REFUSALS) + 1
UPGRADES_AT = RESTARTS_AT + len(RESTARTS)
CELLS = -(-(UPGRADES_AT + len(UPGRADES)) // 8) * 8
METERS_BYTES = CELLS * 8

cdef Py_ssize_t closes_at = CLOSES_AT
cdef Py_ssize_t refusals_at = REFUSALS_AT


@cython.final
cdef class Meters:
    def __cinit__(self, memory=None):
        if memory is None:
            self._cells = <int64_t*> PyMem_Calloc(CELLS, sizeof(int64_t))
            if self._cells == NULL:
                raise MemoryError()
            return
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._is_view = True
        self._cells = <int64_t*> self._buffer.buf
        if self._buffer.len < METERS_BYTES:
            raise ValueError(f"the figures of metrics need {METERS_BYTES} bytes of memory")

    def __dealloc__(self):
        if self._is_view:
            PyBuffer_Release(&self._buffer)
        else:
            PyMem_Free(self._cells)

    cdef void add(self, Count place, int64_t amount) noexcept:
        self._cells[<int> place] += amount

    cpdef void conversation_began(self) noexcept:
        self._cells[<int> C_CONVERSATIONS] += 1

    cdef void record_s(self, Distribution place, double value) noexcept:
        cdef int64_t* row = self._cells + <int> C_COUNTS + <int> place * C_ROW
        cdef int64_t value_us = <int64_t> (min(max(value, 0.0), C_MAX / 1e6) * 1e6 + 0.5)
        # A bound belongs to the bucket below it: 20 ms is in the bucket of 20 ms.
        row[min(se_meter_bits((value_us - 1) // UNITS_US[<int> place]), C_BOUNDS)] += 1
        row[C_ROW - 1] += value_us

    cpdef void turn_began(self) noexcept:
        self._cells[<int> C_TURNS] += 1

    cpdef void turn_ended(self, int outcome, double duration_s, Py_ssize_t sent) noexcept:
        cdef int place = <int> C_ANSWERED + outcome
        self._cells[place] += 1
        self.record_s(D_TURN, duration_s)
        if place == C_INTERRUPTED:
            self._cells[<int> C_WASTED_BY_INTERRUPTION] += sent
        elif place == C_CLOSED:
            self._cells[<int> C_WASTED_BY_END] += sent

    cpdef void first_text(
        self, bint is_filler, double after_s, double wait_s, double provider_s, double thinking_s
    ) noexcept:
        self.record_s(D_FIRST_FILLER if is_filler else D_FIRST_TEXT, after_s)
        if wait_s >= 0.0:
            self.record_s(D_HANDLER_WAIT, wait_s)
        if provider_s >= 0.0:
            self.record_s(D_PROVIDER, provider_s)
        if thinking_s >= 0.0:
            self.record_s(D_THINKING, thinking_s)

    cpdef void gap(self, double longest_s) noexcept:
        self.record_s(D_LONGEST_GAP, longest_s)

    cpdef void yielded(self, double after_s) noexcept:
        self.record_s(D_YIELD, after_s)

    cpdef void stray_ended(self) noexcept:
        self._cells[<int> C_STRAYS_ENDED] += 1

    cpdef tokens(self, given, made):
        self._cells[<int> C_INPUT_TOKENS] += given or 0
        self._cells[<int> C_OUTPUT_TOKENS] += made or 0

    def count(self, str name not None, amount=1):
        self._cells[COUNT_NAMES.index(name)] += amount

    def record(self, str name not None, double value):
        self.record_s(<Distribution> <int> HISTOGRAM_NAMES.index(name), value)

    def handshake_ended(self, double duration_s):
        self.record_s(D_HANDSHAKE, duration_s)

    def conversation_ended(self, str cause not None, code, double duration_s, Py_ssize_t turns):
        self.record_s(D_CONVERSATION, duration_s)
        self.record_s(D_CONVERSATION_TURNS, <double> turns)
        self.count_close(cause, code)

    def closed(self, str cause not None, code):
        self.count_close(cause, code)

    cdef int count_close(self, str cause, code) except -1:
        cdef Py_ssize_t place = _PLACE_OF_CAUSE.get(cause, len(CAUSES) - 1) * (len(CODES) + 1)
        self._cells[closes_at + place + <Py_ssize_t> _PLACE_OF_CODE.get(code, len(CODES))] += 1
        return 0

    def refused(self, str reason not None):
        self._cells[refusals_at + <Py_ssize_t> _PLACE_OF_REFUSAL.get(reason, len(REFUSALS))] += 1

    def cells(self):
        cdef Py_ssize_t place
        return [self._cells[place] for place in range(CELLS)]
