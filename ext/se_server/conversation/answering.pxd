"""The fields of the compiled `answering.py`."""

cimport cython
from se_server.telemetry._counts cimport Counts
from se_server.conversation._outbox cimport Outbox
from se_server.conversation.jobs cimport Job
from se_server.conversation.turn_ends cimport TurnEnds
from se_server.protocol.turn cimport Turn
from se_server.streams._shape cimport Shaper
from se_server.streams._stream cimport Stream


cdef class Answering(TurnEnds):
    cdef double _stream_close_s
    cdef bint _speaks_refusals
    cdef bint _takes_over
    cdef double _chunk_pace_s
    cdef object _shape
    cdef _prepare(self, Outbox outbox, settings, Counts stats)
    # Without this type, attributes of the value of the context variable would be looked up by name.
    @cython.locals(turn=Turn)
    cdef Turn _turn_to_answer(self)
    cdef bint _may_be_raw(self, str text)
    cdef Stream _open(self, response, bint takeover)
    cdef _send_text(self, Turn turn, str text, bint final)
    cdef _send_shaped(self, Turn turn, str text, shape)
    cdef _end_answer(self, Turn turn, bint final, bint has_failed)
    @cython.locals(job=Job)
    cdef _log_doubt(self, Turn turn, tuple doubt)
