"""The fields of the compiled `turns.py`."""

cimport cython
from se_server.protocol.turn cimport Turn


cdef class PastTurns:
    # As many as MAX_PAST_TURNS.
    cdef Py_hash_t[64] _digests
    cdef unsigned char[64] _superseded
    cdef int _count
    cdef int _next
    @cython.locals(size=int)
    cdef add(self, Py_hash_t digest, bint superseded)
    @cython.locals(age=int, index=int)
    cdef state_of(self, Py_hash_t digest)


cdef class TurnLedger:
    cdef readonly Turn current
    cdef readonly Turn newest
    cdef bint _adopts
    cdef bint _replays
    cdef bint _retries
    cdef bint _stays_silent
    cdef Py_hash_t _first_digest
    cdef object _first_state
    cdef PastTurns _past
    cdef object _highest_id             # a Python integer: 64 bits without a sign are let through, too
    @cython.locals(turn=Turn)
    cpdef Turn turn_of(self, event_id, bytes event_id_json, double started_at, owner, str said)
    @cython.locals(current=Turn, newest=Turn)
    cpdef judge(self, Turn turn)
    cpdef Turn begin(self, Turn turn)
    cpdef adopt(self, Turn turn)
    cpdef forget(self)
    cpdef end(self, Turn turn, state, double now=*)
    cdef _note_id(self, Turn turn)
    cdef _state_of(self, Py_hash_t digest)
    cdef _remember(self, Py_hash_t digest, state)


cdef bint _was_lost(Turn answered, Turn turn)
cdef bint _may_run_again(Turn failed, Turn turn)
