"""An iterator that may send the texts of an answer itself."""

from se_server.streams._scan cimport Scanner


cdef class Source:
    """An iterator whose events are lists of texts until it says otherwise, and which may deliver them itself."""

    cdef readonly bint gives_texts  # the event in progress is a list of texts
    cdef object stream          # that iterates it, and whose functions follow
    # Send texts at once, from a callback of the event loop; false, and nothing is sent, if the stream's task has to.
    cdef bint (*deliver)(object stream, list texts) except -1
    # Read on where a scanner stopped, with what it has counted and kept.
    cdef int (*resume)(object stream, Scanner scanner, bint has_text) except -1
