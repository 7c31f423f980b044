"""The fields of the compiled `answering.py`."""

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
from se_server.streams._shape cimport Shaper
from se_server.streams._stream cimport Stream


cdef class Answering(TurnHost):
    cdef readonly Outbox _outbox
    cdef readonly object _settings
    cdef bint _debugs
    cdef readonly Counts _stats
    cdef readonly Clock _clock
    cdef readonly Ring _ring
    cdef readonly unsigned int _number
    cdef readonly TurnLedger _ledger
    cdef readonly Pace _pace
    cdef double _stream_close_s
    cdef bint _speaks_refusals
    cdef bint _takes_over
    cdef double _chunk_pace_s
    cdef object _shape
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
    cdef _send_final(self, Turn turn)
    @cython.locals(job=Job)
    cdef _log_doubt(self, Turn turn, tuple doubt)
    cdef _send_empty(self, Turn turn, str text)
    cdef _settle(self, Turn turn, bint failed, state)
    cdef _end_turn(self, Turn turn, state, double now, bint failed)
    # Without this type each counter would be looked up by its name.
    @cython.locals(stats=Counts, outcome=int)
    cdef _turn_ended(self, Turn turn, bint failed)
