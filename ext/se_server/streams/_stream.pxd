"""The stream of one answer."""

from cpython.object cimport PyObject

from se_server.protocol.turn cimport Turn
from se_server.streams._delta cimport Reading
from se_server.streams._scan cimport Scanner
from se_server.streams._gatherer cimport Gatherer
from se_server.streams._shape cimport Shaper
from se_server.streams._sink cimport Sink
from se_server.streams._source cimport Source
from se_server.telemetry._clock cimport Clock

cdef extern from "Python.h":
    ctypedef PyObject* (*unaryfunc)(object)


cdef class Stream:
    cdef object _opening        # the way to the iterator; None where user code passed a generator
    cdef object _iterator       # None until it is opened
    cdef unaryfunc _anext       # the slot behind the iterator's `__anext__`
    cdef Source _source         # the iterator, if it is one
    cdef bint _is_generator
    cdef bint _is_untouched     # a generator whose first event was not asked for
    cdef readonly bint is_over  # nothing is left to close
    cdef object _awaited        # the iterator of the awaitable in progress, or None
    cdef object _other          # the task that `_awaited` waits for, or None
    cdef int _waits             # for an event, for room in the sink, or for the opening
    cdef double _close_s        # what closing may take
    cdef object _error          # what ended the stream, for those who close it
    cdef bint _is_whole         # the iterator came to its end
    cdef list _found            # closes what was open underneath when an event did not end in time, or None
    cdef bint _is_lost          # the iterator goes on in a task of its own
    cdef Sink _sink
    cdef Turn _turn
    cdef Clock _clock
    cdef int _events            # since the event loop last ran
    cdef Py_ssize_t _chunks     # put and not yet noted on the turn
    cdef Reading _reading       # made for the first event that is no plain text
    cdef str _first             # the first plain text, until the second came
    cdef bint _has_texts        # there were two, and the second did not repeat the first
    cdef bint _mutes_refusals
    cdef bint _is_watched       # the times of its first event and of its first text are not noted yet
    cdef bint _is_recorded      # its events are put on the tape
    cdef double _event_at       # when the last event came, while it is watched
    cdef Gatherer _gatherer     # gathers texts once the answer is ahead of speech, or None
    cdef bint _is_direct        # texts are put as they come: neither gathered nor shaped
    cdef Shaper _shaper         # shapes the text before it is put, or None
    cdef bint _is_hiding        # the text ended behind a <think> that nothing closed
    cdef bint _was_shaped       # there was some text, of which nothing may be left
    cdef Py_ssize_t _chunks_before  # of the turn, when the stream began
    cpdef pump(self, Sink sink, Turn turn, Clock clock)
    cpdef object doubt(self)
    cdef object _wakeable(self, object suspended)
    cdef object _wait_for(self, object other)
    cpdef gather(self, double pace_s)
    cpdef shape(self, shape)
    cdef int _put_one(self, str text) except -1
    cdef int _put_otherwise(self, str text) except -1
    cdef int _end_shape(self) except -1
    cdef int _release(self) except -1
    cdef int _iterate(self, object iterator) except -1
    cdef int _put_all(self, list texts) except -1
    cdef bint _deliver(self, list texts) except -1
    cdef int _resume(self, Scanner scanner, bint has_text) except -1
    cdef int _note_texts(self) except -1
    cdef bint _note_event(self, object event) except -1
    cdef int _fail(self, object error) except -1
    cdef int _stopped(self) except -1
    cdef int _finish(self) except -1
    cdef int _finish_thrown(self) except -1
    cdef int _flush(self) except -1
    cdef int _take(self, object event) except -1
    cdef int _put(self, str text) except -1
    cdef bint _is_plain(self, str text) except -1
    cdef Reading _start_reading(self)
    cdef int _take_rest(self) except -1
    cdef int _raise_failure(self) except -1
    cdef int _take_bounded(self, str text) except -1
    cdef object _step(self, object value)
    cdef int _run(self, object value, PyObject** yielded) except -1
    cdef int _advance(self, object value, PyObject** yielded) except -1


cpdef Stream open_stream(response, double close_s=*, bint takeover=*)
