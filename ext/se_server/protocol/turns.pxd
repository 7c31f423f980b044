"""The fields of the compiled `turns.py`."""

cdef class Turn:
    cdef readonly object event_id
    cdef readonly bytes event_id_json
    cdef readonly object owner
    cdef readonly str said
    cdef readonly Py_hash_t digest
    cdef readonly double started_at
    cdef readonly object first_chunk_at
    cdef readonly bint open
    cdef public bint needs_final
    cdef public bint failed
    cdef readonly Py_ssize_t chunks
    cdef public object state
    cpdef note_texts(self, Py_ssize_t count, double now)
    cpdef bint is_again(self, Turn turn)
    cpdef bint may_become(self, Turn turn)
    cpdef become(self, Turn turn)
    cpdef end(self, state)


cdef class TurnLedger:
    cdef readonly Turn current
    cdef bint _adopts
    cdef Py_hash_t _last_digest
    cdef object _last_state
    cdef dict _past
    cpdef judge(self, Turn turn)
    cpdef Turn begin(self, Turn turn)
    cpdef adopt(self, Turn turn)
    cpdef end(self, Turn turn, state)
    cdef _state_of(self, Py_hash_t digest)
    cdef _remember(self, Py_hash_t digest, state)


cpdef last_said(list transcript)
