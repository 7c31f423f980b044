"""The fields of the compiled `core.py`."""

from se_server.conversation.answering cimport Answering
from se_server.protocol._wire cimport Message
from se_server.protocol.turn cimport Turn


cdef int USER_TRANSCRIPT_KIND
cdef int PING_KIND


cdef class SessionCore(Answering):
    cdef readonly object _transport
    cdef readonly object _request
    cdef readonly object _callbacks
    cdef object _on_transcript
    cdef readonly double _opened_at
    cdef readonly double _ended_at
    cdef readonly str _why
    cdef public object _on_ended
    cdef public dict _permanent
    cdef public dict _once
    cdef bint _bad_entry_seen
    cdef _take_message(self, Message message)
    cdef _receive_transcript(self, Message message)
    cdef _receive_again(self, Turn turn, verdict)
