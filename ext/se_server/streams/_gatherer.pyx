"""Gathers the texts of a stream into one while the answer is well ahead of its speech."""

from se_server.telemetry._clock cimport Clock

from asyncio import get_running_loop

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

# Speech has about 15 characters a second. What the API buffers, and its voice's own pace, are allowed for.
cdef double CHARS_PER_S = 15.0
cdef double AHEAD_S = 2.0


cdef Gatherer gatherer_of(double pace_s):
    cdef Gatherer gatherer = Gatherer.__new__(Gatherer)
    gatherer._pace_s = pace_s
    return gatherer


cdef class Gatherer:
    def __init__(self, *args, **kwargs):
        raise TypeError("a gatherer is made by gatherer_of")

    cdef bint hold(self, str text, Clock clock, object stream) except -1:
        """Gather a text with those that follow, if what was sent is enough to speak for a while.

        The stream's `_pace_over` is called when it is to be released. Otherwise the text is to be sent at once.
        """
        cdef double now
        if self._held is not None:
            self._held.append(text)
            return True
        now = clock.now()
        if self._sent_chars == 0:
            self._begun_at = now
        elif self._sent_chars / CHARS_PER_S - (now - self._begun_at) > AHEAD_S + self._pace_s:
            self._held = [text]
            self._timer = get_running_loop().call_later(self._pace_s, stream._pace_over)
            return True
        self._sent_chars += PyUnicode_GET_LENGTH(text)
        return False

    cdef str release(self):
        """Return the gathered texts as one; None if there are none."""
        cdef str text
        held, self._held = self._held, None
        if held is None:
            return None
        self._timer.cancel()
        text = "".join(held)
        self._sent_chars += PyUnicode_GET_LENGTH(text)
        return text
