"""The fields of the compiled `waiting.py`."""

from se_server.conversation._outbox cimport Outbox
from se_server.conversation.answering cimport Answering
from se_server.protocol.turn cimport Turn
from se_server.telemetry._counts cimport Counts


cdef class Waiting(Answering):
    cdef bint _holds
    cdef double _hold_after_s
    cdef double _look_every_s
    cdef object _watch
    cdef double _settle_s
    cdef Turn _settling
    cdef list _settling_transcript
    cdef object _settle_timer
    cdef _prepare_waits(self, Outbox outbox, settings, Counts stats)
    cdef _receive_again(self, Turn turn, verdict)
    cdef bint _has_crossed(self, Turn again, Turn answered) except -1
    cdef _replay(self, Turn again)
    cdef _keep_watch(self)
    cdef _hold(self, Turn turn)
    cdef _wait_for_more(self, Turn turn, list transcript, Turn superseded)
    cdef _end_waits(self)
