"""The counters of `counters.py`; setup.py writes them."""

from se_server.telemetry._meters cimport Meters
from se_server.telemetry._ring cimport Ring


cdef struct Cells:
    long long sessions_opened
    long long sessions_closed
    long long turns_started
    long long turns_answered
    long long turns_superseded
    long long turns_failed
    long long turns_ended
    long long transcripts_repeated
    long long answers_replayed
    long long turns_retried
    long long answers_empty
    long long blanks_sent
    long long silences
    long long transcripts_answered
    long long transcripts_superseded
    long long transcripts_adopted
    long long turns_timed_out
    long long answers_too_long
    long long first_words_sent
    long long failure_texts_sent
    long long chunks_sent
    long long messages_received
    long long message_errors
    long long handler_errors
    long long streams_left
    long long stray_handlers
    long long late_texts
    long long write_timeouts


cdef class Counts:
    cdef Cells* cells
    cdef Py_buffer _buffer
    cdef bint _is_view
    cdef readonly Meters meters
    cdef readonly Ring ring
