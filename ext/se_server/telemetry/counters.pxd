"""The fields of the compiled `_counters.py`."""


cdef class Counters:
    cdef public long long sessions_opened
    cdef public long long sessions_closed
    cdef public long long turns_started
    cdef public long long turns_answered
    cdef public long long turns_superseded
    cdef public long long turns_failed
    cdef public long long turns_ended
    cdef public long long transcripts_repeated
    cdef public long long transcripts_answered
    cdef public long long transcripts_superseded
    cdef public long long transcripts_adopted
    cdef public long long turns_timed_out
    cdef public long long answers_too_long
    cdef public long long first_words_sent
    cdef public long long failure_texts_sent
    cdef public long long chunks_sent
    cdef public long long messages_received
    cdef public long long message_errors
    cdef public long long handler_errors
    cdef public long long stray_handlers
    cdef public long long late_texts
    cdef public long long write_timeouts
