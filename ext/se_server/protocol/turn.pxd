"""The fields of the compiled `turn.py`."""

cimport cython
from se_server.telemetry._meters cimport Meters
from se_server.telemetry._ring cimport Ring

cdef int TEXTS_SENT
cdef int HANDLER_BEGAN
cdef int FIRST_EVENT
cdef int FILLER_SENT
cdef int TURN_ENDED


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
    cdef readonly double began_at
    cdef readonly double first_event_at
    cdef readonly double longest_gap_s
    cdef double _last_text_at
    cdef public Ring ring
    cdef public unsigned int number
    cdef readonly Py_ssize_t chunks
    cdef readonly Py_ssize_t fillers
    cdef public bint has_failure_text
    cdef double _ended_at
    cdef public Py_ssize_t bytes_left
    cdef readonly bint is_full
    cdef public object usage
    cdef public object winner
    cdef list _texts
    cdef Py_ssize_t _room
    cdef public object state
    cdef _start(self, event_id, bytes event_id_json, double started_at, owner, str said)
    cpdef double first_text_after_s(self)
    cpdef note_final(self, double now)
    cpdef note_texts(self, Py_ssize_t count, double now)
    cpdef note_began(self, double now)
    cpdef note_event(self, double now)
    @cython.locals(wait_s=double, provider_s=double, thinking_s=double)
    cpdef count_in(self, Meters meters, int outcome)
    # Without these types the arithmetic would make Python's integers, here for every chunk.
    @cython.locals(room=Py_ssize_t)
    cpdef keep(self, str text)
    @cython.locals(served=Py_ssize_t, index=Py_ssize_t, texts=list, text=str)
    cpdef leave_out_blanks(self)
    cpdef Py_ssize_t kept_texts(self)
    @cython.locals(place=Py_ssize_t, texts=list, text=str)
    cpdef bint has_words_since(self, Py_ssize_t index)
    cpdef str fit(self, str text)
    cpdef bint is_again(self, Turn turn)
    cpdef bint may_become(self, Turn turn)
    cpdef bint outlasts_silence(self)
    cpdef become(self, Turn turn)
    cpdef end(self, state, double now=*)
