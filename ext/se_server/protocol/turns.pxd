"""The fields of the compiled `turns.py`."""

cdef class Turn:
    cdef readonly object event_id
    cdef readonly bytes event_id_json
    cdef readonly object owner
    cdef readonly double started_at
    cdef readonly object first_chunk_at
    cdef readonly bint open
    cdef public bint needs_final
    cdef readonly Py_ssize_t chunks
    cdef public object state
    cpdef note_texts(self, Py_ssize_t count, double now)
    cpdef end(self, state)


cdef class TurnLedger:
    cdef readonly Turn current
    cpdef bint is_duplicate(self, event_id)
    cpdef Turn begin(self, Turn turn)
    cpdef end(self, Turn turn, state)
