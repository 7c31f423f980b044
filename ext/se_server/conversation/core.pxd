"""The fields of the compiled `core.py`."""

cimport cython
from se_server._message cimport ConversationMessage
from se_server.conversation.waiting cimport Waiting
from se_server.protocol._wire cimport Message
from se_server.protocol.turn cimport Turn


cdef int USER_TRANSCRIPT_KIND
cdef int PING_KIND
cdef int INIT_KIND
cdef int CLOSE_KIND
cdef int ERROR_KIND


cdef class SessionCore(Waiting):
    cdef readonly object _transport
    cdef readonly object _request
    cdef readonly object _callbacks
    cdef object _on_transcript
    cdef readonly double _opened_at
    cdef readonly double _ended_at
    cdef readonly str _why
    cdef readonly str _api_error
    cdef public object _on_ended
    cdef public dict _permanent
    cdef public dict _once
    cdef bint _bad_entry_seen
    cdef _take_message(self, Message message)
    @cython.locals(last=ConversationMessage)
    cdef _receive_transcript(self, Message message)
    cdef _answer_silence(self, Turn turn, Turn superseded)
