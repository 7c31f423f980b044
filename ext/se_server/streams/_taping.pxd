"""Puts the events of a stream on the tape of its recorded conversation."""

from se_server.telemetry._tape cimport Tape


cdef int tape_event(Tape tape, unsigned int number, object event, double now) except -1
