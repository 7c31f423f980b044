"""The fields of the compiled `turn_ends.py`."""

cimport cython
from se_server.telemetry._counts cimport Counts
from se_server.telemetry.pace cimport Pace
from se_server.telemetry._clock cimport Clock
from se_server.telemetry._ring cimport Ring
from se_server.conversation._outbox cimport Outbox
from se_server.conversation.jobs cimport Job, TurnHost
from se_server.conversation.lane cimport Lane
from se_server.protocol.turn cimport Turn
from se_server.protocol.turns cimport TurnLedger


cdef class TurnEnds(TurnHost):
    cdef readonly Outbox _outbox
    cdef readonly object _settings
    cdef bint _debugs
    cdef readonly Counts _stats
    cdef readonly Clock _clock
    cdef readonly Ring _ring
    cdef readonly unsigned int _number
    cdef readonly TurnLedger _ledger
    cdef readonly Pace _pace
    cdef readonly Py_ssize_t _max_answer_bytes
    cdef str _empty_answer_text
    cdef str _silent_text
    cdef bint _ends_with_turn
    cdef bint _closed
    cdef Turn _last_turn
    cdef readonly object _loop
    cdef readonly Lane _lane
    cdef readonly object _guards
    cdef readonly object _lifetime
    cdef _prepare_ends(self, Outbox outbox, settings, Counts stats)
    @cython.locals(job=Job)
    cdef _send_final(self, Turn turn)
    cdef _send_empty(self, Turn turn, str text)
    cdef _settle(self, Turn turn, bint failed, state)
    cdef _end_turn(self, Turn turn, state, double now, bint failed)
    # Without this type each counter would be looked up by its name.
    @cython.locals(stats=Counts, outcome=int)
    cdef _turn_ended(self, Turn turn, bint failed)
