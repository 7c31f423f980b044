"""The loop of a load generator: one thread holds many conversations.

A turn is handled in C on plain descriptors. Python objects are used only when a connection begins or ends, for errors,
and for TLS. Counters and histograms are in memory that a parent may read at any time.
"""

import json
import os
import selectors
import socket
import ssl
from collections import deque

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITABLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINPROGRESS, EINTR, ENETUNREACH, errno
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, clock_gettime, clockid_t, timespec

from se_server.telemetry._histogram cimport Histogram
from se_server.protocol._wire cimport UTF8_ACCEPT, UTF8_REJECT

from se_server.load import phrases
from se_server.telemetry import _histogram
from se_server.load.target import what_is_wrong

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void* data, size_t size, int flags)
    ssize_t send(int fd, const void* data, size_t size, int flags)

include "se_server/protocol/_wire_utf8.pxi"
include "se_server/protocol/_wire_scan.pxi"
include "_engine_bytes.pxi"
include "_engine_messages.pxi"
include "_engine_timers.pxi"
include "_engine_poll.pxi"

COUNTERS = (
    "up", "opened", "closed", "asked", "turns", "chunks", "interrupted", "resends", "late_texts", "pings", "errors",
    "sent_bytes", "received_bytes", "cpu_ns", "wall_ns", "behind_ns",
)
cdef enum:
    UP_NOW = 0
    OPENED
    CLOSED
    ASKED
    TURNS
    CHUNKS
    INTERRUPTED
    RESENDS
    LATE_TEXTS
    PINGS
    ERRORS
    SENT_BYTES
    RECEIVED_BYTES
    CPU_NS
    WALL_NS
    BEHIND_NS
    CELLS = 64

HISTOGRAMS_AT = CELLS * sizeof(int64_t)
SLOT_BYTES = HISTOGRAMS_AT + 3 * _histogram.HISTOGRAM_BYTES

cdef enum:
    INBOX = 1 << 18
    HEAD_LIMIT = 1 << 16
    AT_ONCE = 64  # concurrent handshakes, unless they come at a rate
    ARRIVALS_AT_ONCE = 64  # arrivals handled before sockets are read
    TRIES = 3
    SAMPLE_EVERY = 16
    INTERRUPT_WITHIN = 6  # texts of an answer
    ID_STEP = 8
    NUMBER_MAX = 24  # digits of an id
    FAILURES_KEPT = 3  # for each kind

cdef int64_t NS = 1_000_000_000
cdef int64_t NEVER = INT64_MAX
cdef int64_t CONNECT_TIMEOUT_NS = 10 * NS
cdef int64_t FINAL_TIMEOUT_NS = 30 * NS
cdef int64_t LEAVE_TIMEOUT_NS = 2 * NS
cdef int64_t STOP_GRACE_NS = 2 * NS
cdef int64_t END_GRACE_NS = 60 * NS
cdef int64_t CALL_AGAIN_NS = NS
cdef int64_t PUBLISH_NS = NS // 20
cdef int64_t PROFILE_NS = NS // 50
cdef int64_t STEP_NS = NS // 200
cdef double STEP_S = 0.005
cdef uint64_t CONTROL = 0xFFFFFFFFFFFFFFFF
cdef str SHORT = "the server closed the connection"

cdef bytes HEAD = b'{"type": "user_transcript", "user_transcript": ['
cdef bytes USER = b'{"role": "user", "content": "'
cdef bytes AGENT = b'{"role": "agent", "content": "'
cdef bytes END = b'"}'
cdef bytes COMMA = b", "
cdef bytes GOODBYE = b'{"type": "close"}'


cdef inline int64_t clock(clockid_t which) noexcept nogil:
    cdef timespec now
    clock_gettime(which, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t now_ns() noexcept nogil:
    return clock(CLOCK_MONOTONIC)


cdef inline int add_bytes(Bytes* buffer, bytes data) except -1:
    return add(buffer, <const char*> data, len(data))


include "_engine_conversation.pxi"


cdef class Engine:
    cdef object plan, target, waiting, profile, unassigned
    cdef readonly dict errors
    cdef readonly list failures
    cdef Poller poller
    cdef list conversations
    cdef Py_buffer memory
    cdef int64_t* cells
    cdef Histogram first_chunk, final, handshake
    cdef Timers timers
    cdef Bytes inbox, frame
    cdef Shape shapes[SHAPES]
    cdef list phrases, ascii_phrases, agent_phrases, words
    cdef uint64_t random
    cdef int control, address
    cdef bint is_stopped, is_running, is_open_loop, is_profiled, calls_again, spins
    cdef Py_ssize_t count, wanted, under_way, cursor, open, queued, calls_due
    cdef Py_ssize_t history, max_history
    cdef int64_t chunks, joined_bytes, asks_left, began_ns, end_ns, next_arrival_ns, arrival_base_ns, next_connect_ns
    cdef int64_t connect_gap_ns, next_publish_ns, next_profile_ns, cpu_began_ns, resend_ns, think_ns, call_ns
    cdef double rate, interruption_rate
    cdef bytes tail

    def __cinit__(self, plan, target, memory, int control_fd=-1, bint is_portable=False):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_WRITABLE)
        if self.memory.len < <Py_ssize_t> SLOT_BYTES:
            raise ValueError(f"the figures need {SLOT_BYTES} bytes of memory")
        self.cells = <int64_t*> self.memory.buf
        parts = memoryview(memory).cast("B")
        histogram_bytes = _histogram.HISTOGRAM_BYTES
        self.first_chunk, self.final, self.handshake = [
            Histogram(parts[HISTOGRAMS_AT + place * histogram_bytes :]) for place in range(3)
        ]
        self.plan = plan
        self.target = target
        self.profile = plan.profile
        self.is_profiled = any(share != 1.0 for _, share in plan.profile)
        self.control = control_fd
        self.poller = Poller(is_portable)
        self.waiting = deque()
        self.unassigned = deque()
        self.errors = {}
        self.failures = []
        self.phrases = [phrases.escaped(phrase, is_ascii=False) for phrase in phrases.USER_PHRASES]
        self.ascii_phrases = [phrases.escaped(phrase, is_ascii=True) for phrase in phrases.USER_PHRASES]
        self.agent_phrases = [phrases.escaped(phrase, is_ascii=False) for phrase in phrases.AGENT_PHRASES]
        self.words = [phrases.escaped(word, is_ascii=False) for word in plan.expected_words]
        self.random = plan.seed
        self.count = plan.conversations
        self.chunks = plan.chunks or 0
        self.joined_bytes = sum(map(len, self.words[1 : self.chunks])) if plan.may_join else -1
        self.history = plan.history or 0
        self.max_history = plan.max_history
        self.rate = plan.turns_per_s or 0.0
        self.is_open_loop = plan.turns_per_s is not None
        self.spins = plan.spins
        self.think_ns = <int64_t> (plan.think_s * 1e9)
        self.call_ns = <int64_t> ((plan.call_s or 0.0) * 1e9)
        self.resend_ns = 0 if plan.resend_after_s is None else <int64_t> (plan.resend_after_s * 1e9)
        self.interruption_rate = plan.interruption_rate
        self.tail = b" trickle " if plan.pause else b" "
        self.end_ns = self.next_arrival_ns = NEVER
        reserve(&self.inbox, INBOX)
        self.conversations = [new_conversation(self, place) for place in range(self.count)]

    def __dealloc__(self):
        if self.cells is not NULL:
            PyBuffer_Release(&self.memory)
        release(&self.inbox)
        release(&self.frame)
        PyMem_Free(self.timers.heap)

    # --- the rounds of the loop -------------------------------------------------------------------------------------

    def connect(self, double timeout_s, per_s=None, count=None):
        """Open conversations, and return the time taken, in seconds."""
        cdef int64_t began_ns = now_ns(), end_ns = began_ns + <int64_t> (timeout_s * 1e9)
        cdef Conversation c
        begin_round(self)
        self.handshake.clear()
        self.next_connect_ns = began_ns
        self.connect_gap_ns = 0 if per_s is None else <int64_t> (1e9 / per_s)
        self.wanted = 0
        want(self, self.count if count is None else min(count, self.count))
        while (self.waiting or self.under_way) and not self.is_stopped and now_ns() < end_ns:
            go_round(self, end_ns)
        self.waiting.clear()
        for c in self.conversations:
            if c.state in (CONNECTING, SECURING, UPGRADING):
                lose(self, c, "timeout", "the handshake took too long")
        self.connect_gap_ns = 0
        end_round(self)
        return (now_ns() - began_ns) / 1e9

    def run(self, double seconds, turns=None):
        """Hold the conversations for a time or a number of turns, then let every open turn end."""
        cdef Conversation c
        cdef int64_t now, give_up_ns = NEVER
        cdef bint is_over = False
        begin_round(self)
        self.first_chunk.clear()
        self.final.clear()
        memset(self.cells + ASKED, 0, (CPU_NS - ASKED) * sizeof(int64_t))
        self.cells[BEHIND_NS] = 0
        self.end_ns = self.began_ns + <int64_t> (seconds * 1e9)
        self.asks_left = NEVER if turns is None else turns
        self.is_running = True
        self.calls_again = self.plan.reconnects
        self.next_profile_ns = self.began_ns
        self.next_connect_ns = self.began_ns
        self.arrival_base_ns = self.began_ns
        if self.is_open_loop:
            schedule(self)
        if self.is_profiled:
            self.wanted = 0
            follow_profile(self, self.began_ns)
        elif self.calls_again:
            self.wanted = 0
            want(self, self.count)
        for c in self.conversations:
            c.ahead = 0
            if c.state == UP and not c.is_asking:
                begin_asking(self, c, self.began_ns)
        while True:
            now = now_ns()
            if not is_over and (self.is_stopped or now >= self.end_ns or self.asks_left <= 0):
                is_over = True
                self.end_ns = min(now, self.end_ns)
                give_up_ns = now + END_GRACE_NS
            if is_over:
                if self.is_stopped:
                    give_up_ns = min(give_up_ns, now + STOP_GRACE_NS)
                if self.is_stopped or self.asks_left <= 0:
                    self.next_arrival_ns = NEVER
                if not (self.open or self.under_way or self.waiting):
                    drop_unassigned(self)
                if not self.queued:
                    self.waiting.clear()
                # Turns that were due before the end are asked even if their time comes late. An upgrade under way is
                # waited for: the server may have opened its conversation.
                if now >= give_up_ns or not (
                    self.open or self.queued or self.under_way or self.next_arrival_ns != NEVER
                ):
                    break
            elif not (self.cells[UP_NOW] or self.under_way or self.waiting or self.calls_due or self.is_profiled):
                break  # no conversation is left, and none will come
            go_round(self, give_up_ns if is_over else self.end_ns)
        self.is_running = False
        give_up(self)
        self.end_ns = self.next_arrival_ns = NEVER
        end_round(self)
        return (now_ns() - self.began_ns) / 1e9

    def hang_up(self):
        """End all conversations as the API does, and wait up to two seconds for the server to close them."""
        cdef Conversation c
        cdef int64_t end_ns = now_ns() + LEAVE_TIMEOUT_NS
        self.waiting.clear()
        self.is_stopped = False
        self.wanted = 0
        for c in self.conversations:
            if c.state == UP:
                say_goodbye(self, c)
            elif c.state in (CONNECTING, SECURING, UPGRADING):
                shut(self, c)
        while self.cells[UP_NOW] and now_ns() < end_ns:
            go_round(self, end_ns)
        for c in self.conversations:
            if c.state != DOWN:
                shut(self, c)

    def close(self):
        """Drop all connections."""
        cdef Conversation c
        for c in self.conversations:
            if c.state != DOWN:
                shut(self, c)
        self.poller.close()


include "_engine_rounds.pxi"
include "_engine_calls.pxi"
include "_engine_streams.pxi"
include "_engine_turns.pxi"
include "_engine_arrivals.pxi"
include "_engine_parts.pxi"
