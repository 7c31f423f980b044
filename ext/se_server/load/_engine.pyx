"""The loop of a load generator: one thread that holds many conversations, from bytes to figures.

Everything of a turn is done in C, on plain descriptors; Python's objects come in only where a connection begins or ends,
where something fails, and for TLS. Counters and histograms lie in memory that a parent may read meanwhile.
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

from se_server.load._histogram cimport Histogram
from se_server.protocol._wire cimport UTF8_ACCEPT, UTF8_REJECT

from se_server.load import _histogram, lines
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

cdef enum State:
    DOWN = 0
    CONNECTING                                 # of TCP
    SECURING                                   # TLS shakes hands
    UPGRADING
    UP
    LEAVING

cdef enum:
    INBOX = 1 << 18
    HEAD_LIMIT = 1 << 16
    AT_ONCE = 64                               # handshakes under way, unless they come at a rate
    ARRIVALS_AT_ONCE = 64                      # before what has come is read
    TRIES = 3
    SAMPLE_EVERY = 16
    INTERRUPT_WITHIN = 6                       # texts of an answer
    ID_STEP = 8
    NUMBER_MAX = 24                            # of the digits of an id
    FAILURES_KEPT = 3                          # of each kind

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


cdef class Conversation:
    """One caller's place: its connection, its transcript, its turn. Who hangs up calls again from the same place."""
    cdef int32_t place
    cdef int64_t number
    cdef int calls                             # how many times it has called
    cdef State state
    cdef uint32_t generation                   # of what timers and the poller know
    cdef object sock
    cdef object tls                            # the same socket, if it speaks TLS
    cdef int fd
    cdef bint writes                           # the poller also tells when it is writable
    cdef bytes key                             # of the upgrade request
    cdef uint64_t random
    cdef bint is_ascii
    cdef bint is_leaving
    cdef int64_t deadline_ns
    cdef int64_t watched_ns                    # when the timer is due that looks at the deadline
    cdef Bytes outbox                          # what the socket did not take
    cdef Bytes rest                            # of a frame that is not all there
    cdef Bytes message                         # fragments
    cdef bint in_fragments
    # Its transcript: all that stands before the closing bracket, and where the answer that comes has its text.
    cdef Bytes text
    cdef Py_ssize_t messages
    cdef Py_ssize_t base                       # of a history that stays the same: its bytes
    cdef Py_ssize_t message_at                 # where the agent's message starts; 0 while there is none
    cdef Py_ssize_t answer_at
    cdef Py_ssize_t line
    # Its turn.
    cdef bint is_asking
    cdef bint is_wrong
    cdef bint is_sample
    cdef int64_t event_id
    cdef char id_text[NUMBER_MAX]
    cdef Py_ssize_t id_size
    cdef int64_t asked_ns
    cdef int64_t asked
    cdef int texts
    cdef int tries
    cdef int interrupt_at                      # after so many texts; 0 for a user who waits
    cdef Bytes queue                           # moments of turns that wait for this one to end
    cdef int ahead                             # turns asked before their time, by interruptions

    def __dealloc__(self):
        release(&self.outbox)
        release(&self.rest)
        release(&self.message)
        release(&self.text)
        release(&self.queue)


cdef class Engine:
    cdef object plan, target, waiting, profile
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
    cdef list lines, ascii_lines, agent_lines, words
    cdef uint64_t random
    cdef int control, address
    cdef bint is_stopped, is_running, is_open_loop, is_profiled, calls_again, spins
    cdef Py_ssize_t count, wanted, under_way, cursor, open, queued, calls_due
    cdef Py_ssize_t history, max_history
    cdef int64_t chunks, asks_left, began_ns, end_ns, next_arrival_ns, arrival_base_ns, next_connect_ns
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
        self.errors = {}
        self.failures = []
        self.lines = [lines.escaped(line, is_ascii=False) for line in lines.USER_LINES]
        self.ascii_lines = [lines.escaped(line, is_ascii=True) for line in lines.USER_LINES]
        self.agent_lines = [lines.escaped(line, is_ascii=False) for line in lines.AGENT_LINES]
        self.words = [lines.escaped(word, is_ascii=False) for word in plan.expected_words]
        self.random = plan.seed
        self.count = plan.conversations
        self.chunks = plan.chunks or 0
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
        """Open conversations, and return how long it took, in seconds."""
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
        """Hold the conversations for so long, or for so many turns, and then let every open turn end."""
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
                # Turns that were due before the end are asked even when their time has come late.
                if now >= give_up_ns or not (self.open or self.queued or self.next_arrival_ns != NEVER):
                    break
            elif not (self.cells[UP_NOW] or self.under_way or self.waiting or self.calls_due or self.is_profiled):
                break                          # nobody is left, and nobody will come
            go_round(self, give_up_ns if is_over else self.end_ns)
        self.is_running = False
        give_up(self)
        self.end_ns = self.next_arrival_ns = NEVER
        end_round(self)
        return (now_ns() - self.began_ns) / 1e9

    def hang_up(self):
        """End all conversations as the API does, and wait for the server to close them, two seconds at most."""
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
        """Drop everything."""
        cdef Conversation c
        for c in self.conversations:
            if c.state != DOWN:
                shut(self, c)
        self.poller.close()


cdef Conversation new_conversation(Engine engine, Py_ssize_t place):
    cdef Conversation c = Conversation.__new__(Conversation)
    c.place = place
    c.number = engine.plan.first_number + place
    c.random = (<uint64_t> engine.plan.seed << 32) ^ <uint64_t> c.number
    c.random = draw(&c.random)
    c.is_ascii = draw(&c.random) % 8 == 0
    c.fd = -1
    return c


cdef int begin_round(Engine engine) except -1:
    engine.errors.clear()
    engine.failures.clear()
    engine.is_stopped = False
    engine.cells[ERRORS] = 0
    engine.began_ns = now_ns()
    engine.cpu_began_ns = clock(CLOCK_PROCESS_CPUTIME_ID)
    engine.poller.spun_ns = 0
    engine.next_publish_ns = engine.began_ns
    if engine.control >= 0:
        engine.poller.add(engine.control, CONTROL, False)
    return 0


cdef int end_round(Engine engine) except -1:
    publish(engine, now_ns())
    if engine.control >= 0 and not engine.is_stopped:
        engine.poller.remove(engine.control)
    return 0


cdef int publish(Engine engine, int64_t now) except -1:
    engine.cells[CPU_NS] = clock(CLOCK_PROCESS_CPUTIME_ID) - engine.cpu_began_ns - engine.poller.spun_ns
    engine.cells[WALL_NS] = now - engine.began_ns
    engine.next_publish_ns = now + PUBLISH_NS
    return 0


cdef int go_round(Engine engine, int64_t until_ns) except -1:
    """One round: what is due, what is ready."""
    cdef int64_t now = now_ns(), next_ns
    cdef int count, place
    PyErr_CheckSignals()
    while engine.timers.size and engine.timers.heap[0].at_ns <= now:
        fire(engine, pop(&engine.timers), now)
    if engine.is_running:
        if now >= engine.next_profile_ns and now < engine.end_ns and engine.is_profiled:
            follow_profile(engine, now)
        if engine.next_arrival_ns <= now:
            arrive(engine, now)
    if engine.waiting:
        call_waiting(engine, now)
    if now >= engine.next_publish_ns:
        publish(engine, now)
    next_ns = min(until_ns, engine.next_publish_ns)
    if engine.timers.size:
        next_ns = min(next_ns, engine.timers.heap[0].at_ns)
    if engine.is_running:
        next_ns = min(next_ns, engine.next_arrival_ns)
    if engine.waiting and (engine.connect_gap_ns or engine.under_way < AT_ONCE):
        next_ns = min(next_ns, engine.next_connect_ns)
    count = engine.poller.wait(max(0, next_ns - now_ns()), engine.spins and engine.is_running)
    for place in range(count):
        meet(engine, &engine.poller.ready[place])
    return 0


cdef int meet(Engine engine, Ready* ready) except -1:
    """A socket that is ready for something."""
    cdef Conversation c
    if ready.key == CONTROL:
        engine.is_stopped = True
        engine.poller.remove(engine.control)
        return 0
    c = <Conversation> engine.conversations[<Py_ssize_t> (ready.key & 0xFFFFFFFF)]
    if c.generation != ready.key >> 32 or c.state == DOWN:
        return 0                           # of a connection that ended in this very round
    if c.state == CONNECTING:
        return connected(engine, c)
    if c.state == SECURING:
        return secure(engine, c)
    if ready.writes and c.outbox.size:
        flush(engine, c)
    if ready.reads and c.state >= UPGRADING:
        read(engine, c)
    return 0


cdef int fire(Engine engine, Timer timer, int64_t now) except -1:
    cdef Conversation c = <Conversation> engine.conversations[timer.place]
    if timer.due == CALL:
        engine.calls_due -= 1
        if engine.is_running and c.state == DOWN and c.place < engine.wanted:
            engine.waiting.append(c.place)
        return 0
    if timer.generation != c.generation or c.state == DOWN:
        return 0
    if timer.due == WATCH:
        if timer.at_ns == c.watched_ns:
            c.watched_ns = NEVER
            if now >= c.deadline_ns:
                overdue(engine, c, now)
            elif c.deadline_ns != NEVER:
                watch(engine, c, c.deadline_ns)
    elif timer.due == ASK:
        if c.state == UP and not c.is_asking and not c.is_leaving and may_ask(engine, now):
            ask(engine, c, 0)
    elif c.state == UP:
        c.is_leaving = True
        if not c.is_asking:
            say_goodbye(engine, c)
    return 0


cdef int watch(Engine engine, Conversation c, int64_t deadline_ns) except -1:
    """See that something has happened by then. A timer that is due earlier will do: it looks again."""
    c.deadline_ns = deadline_ns
    if deadline_ns < c.watched_ns:
        c.watched_ns = deadline_ns
        push(&engine.timers, deadline_ns, c.place, c.generation, WATCH)
    return 0


cdef int count_error(Engine engine, Conversation c, str kind, str what) except -1:
    """Count an error, and keep the first few in words."""
    engine.cells[ERRORS] += 1
    count = engine.errors[kind] = engine.errors.get(kind, 0) + 1
    if count <= FAILURES_KEPT:
        where = "" if c is None else f"conversation {c.number}, turn {c.asked}: " if c.asked else f"conversation {c.number}: "
        engine.failures.append(f"{kind}: {where}{what}")
    return 0


include "_engine_calls.pxi"
include "_engine_turns.pxi"
include "_engine_arrivals.pxi"


# --- for tests: the parts that other people's parsers are compared with --------------------------------------------

def build_frame(int opcode, bytes payload, uint64_t random):
    cdef Bytes out
    memset(&out, 0, sizeof(Bytes))
    try:
        add_frame(&out, opcode, <const unsigned char*> <const char*> payload, len(payload), random)
        return (<const char*> out.data)[: out.size]
    finally:
        release(&out)


def read_frames(bytes data):
    cdef Frame frame
    cdef const unsigned char* start = <const unsigned char*> <const char*> data
    cdef Py_ssize_t used = 0, step = 1, size = len(data)
    found = []
    while True:
        step = read_frame(start + used, size - used, &frame)
        if step < 0:
            raise ValueError(frame.fault.decode())
        if step == 0:
            return found, used
        used += step
        found.append((frame.opcode, frame.is_last, (<const char*> frame.payload)[: frame.size]))


def read_messages(list messages, bytes event_id):
    cdef Shape shapes[SHAPES]
    cdef Heard heard
    cdef bytes data
    memset(shapes, 0, sizeof(shapes))
    found = []
    for data in messages:
        if read_message(
            shapes,
            <const unsigned char*> <const char*> data,
            len(data),
            <const unsigned char*> <const char*> event_id,
            len(event_id),
            &heard,
        ) < 0:
            found.append(heard.fault.decode())
        elif not heard.is_response:
            found.append(None)
        else:
            content = (<const char*> heard.content.start)[1 : heard.content.end - heard.content.start - 1]
            found.append((content, heard.has_our_id, heard.is_final))
    return found


def cut_text(bytes text, Py_ssize_t most):
    return text[: cut_before(<const unsigned char*> <const char*> text, len(text), most)]
