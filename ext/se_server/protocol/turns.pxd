"""The fields of the compiled `turns.py`."""

cimport cython


cdef class Turn:
    cdef readonly object event_id
    cdef readonly bytes event_id_json
    cdef readonly object owner
    cdef readonly str said
    cdef readonly Py_hash_t digest
    cdef readonly double started_at
    cdef double _first_chunk_at
    cdef readonly bint open
    cdef public bint needs_final
    cdef public bint failed
    cdef readonly Py_ssize_t chunks
    cdef readonly Py_ssize_t fillers
    cdef double _ended_at
    cdef public Py_ssize_t bytes_left
    cdef readonly bint is_full
    cdef public object usage
    cdef list _texts
    cdef Py_ssize_t _room
    cdef public object state
    cdef _start(self, event_id, bytes event_id_json, double started_at, owner, str said)
    cpdef double first_text_after_s(self)
    cpdef note_texts(self, Py_ssize_t count, double now)
    # Without these types the arithmetic would make Python's integers, here for every chunk.
    @cython.locals(room=Py_ssize_t)
    cpdef keep(self, str text)
    cpdef str fit(self, str text)
    cpdef bint is_again(self, Turn turn)
    cpdef bint may_become(self, Turn turn)
    cpdef become(self, Turn turn)
    cpdef end(self, state, double now=*)


cdef class PastTurns:
    # As many as MAX_PAST_TURNS.
    cdef Py_hash_t[64] _digests
    cdef unsigned char[64] _superseded
    cdef int _count
    cdef int _next
    @cython.locals(size=int)
    cdef add(self, Py_hash_t digest, bint superseded)
    cdef state_of(self, Py_hash_t digest)


cdef class TurnLedger:
    cdef readonly Turn current
    cdef bint _adopts
    cdef Py_hash_t _first_digest
    cdef object _first_state
    cdef PastTurns _past
    cdef object _highest_id             # a Python integer: 64 bits without a sign are let through, too
    @cython.locals(turn=Turn)
    cpdef Turn turn_of(self, event_id, bytes event_id_json, double started_at, owner, str said)
    cpdef judge(self, Turn turn)
    cpdef Turn begin(self, Turn turn)
    cpdef adopt(self, Turn turn)
    cpdef end(self, Turn turn, state, double now=*)
    cdef _note_id(self, Turn turn)
    cdef _state_of(self, Py_hash_t digest)
    cdef _remember(self, Py_hash_t digest, state)
