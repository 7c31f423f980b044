"""An iterator that may send the texts of an answer itself.

It knows the stream by two functions only, since the module of streams opens what is iterated.
"""


cdef class Source:
    pass
