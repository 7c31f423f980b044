"""The fields of the compiled `core.py`."""

cimport cython
from se_server.telemetry.counters cimport Counters
from se_server.telemetry.pace cimport Pace
from se_server.telemetry._clock cimport Clock
from se_server.conversation._outbox cimport Outbox
from se_server.conversation.lane cimport Lane, TurnHost
from se_server.protocol._wire cimport Message
from se_server.protocol.turn cimport Turn
from se_server.protocol.turns cimport TurnLedger
from se_server.streams._stream cimport Stream


cdef int USER_TRANSCRIPT_KIND
cdef int PING_KIND


cdef class SessionCore(TurnHost):
    cdef readonly object _transport
    cdef readonly Outbox _outbox
    cdef readonly object _request
    cdef readonly object _callbacks
    cdef object _on_transcript
    cdef readonly object _settings
    cdef bint _debugs
    cdef bint _speaks_refusals
    cdef double _stream_close_s
    cdef readonly Counters _stats
    cdef readonly object _loop
    cdef readonly Clock _clock
    cdef readonly double _opened_at
    cdef readonly double _ended_at
    cdef readonly str _why
    cdef readonly object _guards
    cdef readonly Py_ssize_t _max_answer_bytes
    cdef readonly Lane _lane
    cdef readonly TurnLedger _ledger
    cdef readonly Pace _pace
    cdef public object _on_ended
    cdef public dict _permanent
    cdef public dict _once
    cdef bint _closed
    cdef Turn _last_turn
    cdef bint _bad_entry_seen
    cdef _take_message(self, Message message)
    cdef _receive_transcript(self, Message message)
    cdef _receive_again(self, Turn turn, verdict)
    # Without this type, attributes of the value of the context variable would be looked up by name.
    @cython.locals(turn=Turn)
    cdef Turn _turn_to_answer(self)
    cdef Stream _open(self, response)
    cdef _send_text(self, Turn turn, str text, bint final)
    cdef _end_answer(self, Turn turn, bint final, bint has_failed)
    cdef _send_final(self, Turn turn)
    cdef _settle(self, Turn turn, bint failed, state)
    cdef _end_turn(self, Turn turn, state, double now, bint failed)
    # Without this type each counter would be looked up by its name.
    @cython.locals(stats=Counters)
    cdef _turn_ended(self, Turn turn, bint failed)
