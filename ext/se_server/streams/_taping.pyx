"""Puts the events of a stream on the tape of its recorded conversation."""

from cpython.exc cimport PyErr_Clear
from cpython.unicode cimport PyUnicode_CheckExact

from se_server.telemetry._tape cimport T_EVENT, T_TEXT, Tape

from se_server.streams.recording import dump_event

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)  # NULL with an exception

cdef enum:
    # A longer event is recorded as null: see `recording.MAX_EVENT_BYTES`.
    MAX_TEXT_BYTES = 16384


cdef int tape_event(Tape tape, unsigned int number, object event, double now) except -1:
    """Put an event on the tape; `number` is that of the conversation."""
    if type(event) is list:
        for one in <list>event:  # a source delivers the texts that came together
            tape_one(tape, number, one, now)
        return 0
    return tape_one(tape, number, event, now)


cdef int tape_one(Tape tape, unsigned int number, object event, double now) except -1:
    """Put one event there. A text is put there as it is: JSON of it costs ten times as much."""
    cdef Py_ssize_t size = 0
    cdef const char* text = NULL
    if PyUnicode_CheckExact(event):
        text = PyUnicode_AsUTF8AndSize(event, &size)
        if text is NULL:
            PyErr_Clear()  # a lone surrogate
    if text is not NULL and size <= MAX_TEXT_BYTES:
        tape.put(T_TEXT, number, text, size, now)
    else:
        tape.note(T_EVENT, number, dump_event(event), now)
    return 0
