"""Reads rings of events: conversations, their turns part by part, and their events.

Here rather than in Python, because each event of each turn passes through it.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from se_server.telemetry._ring cimport (
    HEAD_WORDS, K_AGAIN, K_API_ERROR, K_ARRIVED, K_ASKED, K_BEGAN, K_BLOCKED, K_BORN, K_CLEARED, K_CLOSED, K_ENDED, K_ERROR, K_EVENT, K_FAILURE,
    K_FILLER, K_GONE, K_LATE, K_NAMED, K_OPENED, K_READY, K_SAID, K_SPAN, K_SPOKEN, K_TEXT, K_TEXTS, K_TRANSCRIPT, TEXT_BYTES, W_CLAIMED, W_LOST,
    W_READ, W_WRITTEN,
)

from se_server.telemetry._ring import EVENTS, KINDS, NO_ID, RING_BYTES

cdef extern from *:
    """
    #define se_ring_count(cell) __atomic_load_n((cell), __ATOMIC_ACQUIRE)

    /* Claim the events up to `written`; return the first of them that no other observer has claimed. During an upgrade two
       observers read a ring, and one that was restarted reads all of it again. */
    static uint64_t se_ring_claim(uint64_t* cell, uint64_t written) {
        uint64_t claimed = __atomic_load_n(cell, __ATOMIC_ACQUIRE);
        while (claimed < written)
            if (__atomic_compare_exchange_n(cell, &claimed, written, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                return claimed;
        return written;
    }
    """
    uint64_t se_ring_count(uint64_t* cell) nogil
    uint64_t se_ring_claim(uint64_t* cell, uint64_t written) nogil

cdef enum:
    C_EVENTS = 65_536
    MAX_KEPT_BYTES = 65_536                     # of the newest events of one conversation
    PARTS = 6
    MAX_TURNS = 200                             # of one conversation, the newest

PART_NAMES = ("socket", "wait", "handler", "provider", "thinking", "write")


cdef inline bint has_text(int kind) noexcept:
    """Whether the text of an event stands behind it."""
    return kind == K_NAMED or kind == K_BLOCKED or kind == K_SAID or kind == K_SPOKEN or kind == K_ERROR or kind == K_SPAN


cdef class Conversation:
    """One conversation, as its events tell it.

    Attributes:
        ring, number: the ring that has its events, and its number there.
        pid: the process id of its worker.
        name: the API's id; None before `init`.
        opened_us, closed_us: when it began and ended, in monotonic microseconds; 0 if that is unknown.
        turns, interruptions: how many turns have ended, and how many of them were interrupted.
        span: the ids of the span of the turn under way; None without traces.
        spans: those of turns that have ended, by the microseconds of their end; the exporter takes them away. Each is given
            to one observer only.
        recent_turns: the last turns that have ended; see `Timelines.read`.
        cause, code: how it ended; -1 while it is open.
    """

    cdef readonly int ring, pid, cause, code
    cdef readonly uint32_t number
    cdef readonly str name
    cdef readonly int64_t opened_us, closed_us
    cdef readonly Py_ssize_t turns, interruptions, errors, api_errors
    cdef readonly str span
    cdef readonly list recent_turns
    cdef readonly dict spans
    cdef bytearray _events
    cdef Py_ssize_t _dropped
    # The turn under way: when each of its steps was, in microseconds; 0 for a step that has not been.
    cdef int64_t _arrived, _transcript, _began, _asked, _event, _ready, _first
    cdef uint32_t _event_id
    cdef Py_ssize_t _texts
    cdef bint _is_filler
    cdef str _blocked

    def __cinit__(self, int ring, uint32_t number, int pid, int64_t opened_us):
        self.ring, self.number, self.pid, self.opened_us = ring, number, pid, opened_us
        self.cause = self.code = -1
        self._events = bytearray()
        self.recent_turns = []
        self.spans = {}

    cdef int keep(self, const char* event) except -1:
        """Keep an event; of very long conversations the newest."""
        cdef Py_ssize_t size = len(self._events)
        if size >= MAX_KEPT_BYTES:
            del self._events[:MAX_KEPT_BYTES // 2]
            self._dropped += MAX_KEPT_BYTES // 32
        self._events += event[:16]
        return 0

    @property
    def state(self):
        """`closed`, `listening`, `waiting`, `thinking` or `speaking`."""
        if self.closed_us:
            return "closed"
        if not self._transcript:
            return "listening"
        if self._first:
            return "speaking"
        return "thinking" if self._began else "waiting"

    @property
    def size(self):
        """The bytes of the events that are kept."""
        return len(self._events)

    @property
    def dropped(self):
        """The number of its oldest events that are not kept any more."""
        return self._dropped

    def events(self):
        """Return the events: microseconds, the kind's name, and the payload, or the text of those that have one."""
        cdef const unsigned char* data
        cdef uint64_t first, second
        cdef Py_ssize_t at
        found = []
        last = None
        for at in range(0, len(self._events), 16):
            data = <const unsigned char*> <char*> self._events + at
            if data[0] == K_TEXT:
                if last is not None and isinstance(last[2], bytes):
                    last[2] += data[1:16]
                continue
            memcpy(&first, data, 8)
            memcpy(&second, data + 8, 8)
            kind = first & 0xFF
            last = [<int64_t> (first >> 8), KINDS.get(kind, "?"), b"" if has_text(kind) else second >> 32]
            if kind == K_SAID or kind == K_SPOKEN:
                last[2] = b"%d " % (second >> 32)
            found.append(last)
        return [
            (when, kind, payload.rstrip(b"\0").decode("utf-8", "replace") if isinstance(payload, bytes) else payload)
            for when, kind, payload in found
        ]

    def forget(self):
        """Forget the events and the turns, of which others may have been told."""
        self._dropped += len(self._events) // 16
        self._events = bytearray()
        self.recent_turns = []

    cdef int begin_turn(self, int64_t when, uint32_t event_id) except -1:
        if self._arrived > when or self._transcript:  # it belongs to the transcript before
            self._arrived = 0
        self._transcript, self._event_id = when, event_id
        self._began = self._asked = self._event = self._ready = self._first = 0
        self._texts = 0
        self._is_filler = False
        self._blocked = None
        return 0

    cdef object end_turn(self, int64_t when, uint32_t outcome, bint is_claimed):
        """Return the turn that has ended; see `Timelines.read`."""
        cdef int64_t[7] steps
        cdef int place
        cdef int64_t last
        if not self._transcript:
            return None
        steps[:] = [
            self._arrived or self._transcript, self._transcript, self._began, self._asked, self._event, self._ready,
            self._first,
        ]
        parts = None
        if self._first:
            # A step that was left out takes no time: the one after it came at once.
            for place in range(5, -1, -1):
                if not steps[place] or steps[place] > steps[place + 1]:
                    steps[place] = steps[place + 1]
            parts = tuple([(steps[place + 1] - steps[place]) / 1e6 for place in range(PARTS)])
        turn = (
            None if self._event_id == NO_ID else self._event_id, outcome, steps[0], when,
            (self._first - steps[0]) / 1e6 if self._first else None, parts, self._texts, bool(self._is_filler),
            self._blocked,
        )
        if len(self.recent_turns) >= MAX_TURNS:
            del self.recent_turns[0]
        self.recent_turns.append(turn)
        self.turns += 1
        if self.span is not None:
            if is_claimed:
                self.spans[when] = self.span
            self.span = None
        self.interruptions += outcome == 1
        self._transcript = self._arrived = 0
        return turn


cdef class Timelines:
    """All conversations whose events are in the rings.

    Attributes:
        live: those that are open, by ring and number.
    """

    cdef readonly dict live
    cdef dict _pids
    cdef set _known
    cdef bint _is_claimed                       # whether the turn that ends is for this observer to export
    cdef dict _naming                           # conversations whose names arrive, by ring: [conversation, size, bytes]

    def __init__(self):
        self.live = {}
        self._pids = {}
        self._known = set()
        self._naming = {}

    def pid_of(self, int ring):
        """Return the process id of the worker that writes to a ring; 0 if it is not known."""
        return self._pids.get(ring, 0)

    def read(self, int ring, memory):
        """Read the new events of a ring.

        Args:
            ring: the number of the ring.
            memory: its memory; the place up to which it was read is written there, for the next observer.

        Returns:
            The turns that have ended, each with its conversation, and the conversations that have ended. A turn is a
            tuple: event id or None, outcome
            (its place in `OUTCOMES`), arrival and end in microseconds, seconds to the first text or None, the parts of
            that time in the order of `PART_NAMES` or None, texts, whether a filler was the first, and the code that
            blocked the event loop before it or None.
        """
        cdef Py_buffer buffer
        cdef uint64_t* words
        cdef uint64_t written, done, lost, safe, claimed
        cdef bytes copied
        cdef Py_ssize_t count, at
        PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE)
        try:
            words = <uint64_t*> buffer.buf
            if buffer.len < RING_BYTES:
                raise ValueError(f"a ring has {RING_BYTES} bytes")
            written = se_ring_count(words + <int> W_WRITTEN)
            done = words[<int> W_READ]
            if done > written:
                done = written
            if written - done > C_EVENTS:
                words[<int> W_LOST] += written - done - C_EVENTS
                done = written - C_EVENTS
            if ring not in self._known:
                # Another observer has read these events: they tell which conversations there are.
                self._known.add(ring)
                done = written - C_EVENTS if written > C_EVENTS else 0
            count = <Py_ssize_t> (written - done)
            if not count:
                return [], []
            copied = _copy(words + <int> HEAD_WORDS, done, count)
            # Events that the writer has overwritten meanwhile are half old and half new.
            safe = se_ring_count(words + <int> W_WRITTEN) + 1
            lost = safe - done - C_EVENTS if safe - done > C_EVENTS else 0
            lost = min(lost, <uint64_t> count)
            words[<int> W_LOST] += lost
            words[<int> W_READ] = written
            claimed = se_ring_claim(words + <int> W_CLAIMED, written)
        finally:
            PyBuffer_Release(&buffer)
        turns, ended = [], []
        cdef const char* data = copied
        for at in range(<Py_ssize_t> lost, count):
            self._is_claimed = done + <uint64_t> at >= claimed
            self._take(ring, data + 16 * at, turns, ended)
        return turns, ended

    cdef int _take(self, int ring, const char* event, list turns, list ended) except -1:
        cdef uint64_t first, second
        cdef uint32_t number, payload
        cdef int kind
        cdef int64_t when
        cdef Conversation conversation
        memcpy(&first, event, 8)
        memcpy(&second, event + 8, 8)
        kind = first & 0xFF
        if kind == K_TEXT:
            return self._take_text(ring, event)
        when = <int64_t> (first >> 8)
        number, payload = <uint32_t> second, <uint32_t> (second >> 32)
        if kind == K_BORN or kind == K_CLEARED:
            self._clear(ring, when, ended)
            self._pids[ring] = payload
            return 0
        key = (<uint64_t> ring << 32) | number
        found = self.live.get(key)
        if found is None:
            if kind == K_GONE or kind == K_CLOSED:
                return 0
            # The event of its beginning was overwritten, or an observer before this one has read it.
            found = Conversation(ring, number, self._pids.get(ring, 0), when if kind == K_OPENED else 0)
            self.live[key] = found
        conversation = <Conversation> found
        conversation.keep(event)
        if has_text(kind):
            self._naming[ring] = [conversation, 15 if kind == K_SAID or kind == K_SPOKEN else payload, b"", kind]
            conversation.errors += kind == K_ERROR
        elif kind == K_API_ERROR:
            conversation.api_errors += 1
        elif kind == K_ARRIVED:
            conversation._arrived = when
        elif kind == K_TRANSCRIPT:
            conversation.begin_turn(when, payload)
        elif kind == K_BEGAN:
            conversation._began = when
        elif kind == K_ASKED:
            conversation._asked = conversation._asked or when
        elif kind == K_EVENT:
            conversation._event = conversation._event or when
        elif kind == K_READY:
            conversation._ready = conversation._ready or when
        elif kind == K_TEXTS or kind == K_FILLER or kind == K_FAILURE:
            if not conversation._first:
                conversation._first = when
                conversation._is_filler = kind == K_FILLER
            conversation._texts += payload
        elif kind == K_ENDED:
            turn = conversation.end_turn(when, payload, self._is_claimed)
            if turn is not None:
                turns.append((conversation, turn))
        elif kind == K_CLOSED:
            conversation.closed_us = when
            conversation.cause, conversation.code = payload >> 16, payload & 0xFFFF
            del self.live[key]
            ended.append(conversation)
        return 0

    cdef int _take_text(self, int ring, const char* event) except -1:
        naming = self._naming.get(ring)
        if naming is None:
            return 0
        cdef Conversation conversation = naming[0]
        conversation.keep(event)
        naming[2] += event[1:16]
        if len(naming[2]) >= naming[1]:
            text = naming[2][:naming[1]].decode("utf-8", "replace")
            if naming[3] == K_NAMED:
                conversation.name = text
            elif naming[3] == K_BLOCKED:
                conversation._blocked = text
            elif naming[3] == K_SPAN:
                conversation.span = text
            del self._naming[ring]
        return 0

    cdef int _clear(self, int ring, int64_t when, list ended) except -1:
        """The worker of a ring is gone, and all its conversations with it."""
        cdef Conversation conversation
        self._naming.pop(ring, None)
        for key in [key for key in self.live if key >> 32 == ring]:
            conversation = self.live.pop(key)
            conversation.closed_us = when
            ended.append(conversation)
        return 0


def lost_in(memory):
    """Return how many events of a ring were overwritten before they were read."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(memory, &buffer, PyBUF_SIMPLE)
    try:
        return (<uint64_t*> buffer.buf)[<int> W_LOST]
    finally:
        PyBuffer_Release(&buffer)


cdef bytes _copy(uint64_t* events, uint64_t done, Py_ssize_t count):
    cdef bytes copied = bytes(bytearray(16 * count))
    cdef char* target = copied
    cdef Py_ssize_t start = done & (C_EVENTS - 1)
    cdef Py_ssize_t head = min(count, <Py_ssize_t> C_EVENTS - start)
    memcpy(target, events + 2 * start, 16 * head)
    memcpy(target + 16 * head, events, 16 * (count - head))
    return copied
