"""The fields of the compiled `turn.py`."""

cimport cython


cdef class Turn:
    cdef readonly object event_id
    cdef readonly bytes event_id_json
    cdef readonly object owner
    cdef readonly str said
    cdef readonly Py_hash_t digest
    cdef public double started_at
    cdef public double asked_at
    cdef public bint ends_with_agent
    cdef double _first_chunk_at
    cdef readonly bint open
    cdef public bint needs_final
    cdef readonly int finals
    cdef readonly double final_at
    cdef public bint held
    cdef public int replays
    cdef public bint is_retry
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
    cpdef note_final(self, double now)
    cpdef note_texts(self, Py_ssize_t count, double now)
    # Without these types the arithmetic would make Python's integers, here for every chunk.
    @cython.locals(room=Py_ssize_t)
    cpdef keep(self, str text)
    cpdef str fit(self, str text)
    cpdef bint is_again(self, Turn turn)
    cpdef bint may_become(self, Turn turn)
    cpdef become(self, Turn turn)
    cpdef end(self, state, double now=*)
