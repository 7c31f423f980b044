# cython: language_level=3
"""picows at its best: a listener in Cython that answers the benchmark's questions with canned frames."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport


cdef extern from "answers.h" nogil:
    struct question:
        int trickles

    struct answer:
        char *bytes
        size_t size

    int read_question(const char *text, size_t size, question *found)
    answer answer_to(const question *asked)
    size_t frame_size(const char *frame)
    size_t head_size(const char *frame)


cdef class Session(WSListener):
    """One conversation: a write a turn, or one a frame if the question asks for a trickle."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef question asked
        cdef answer ready
        cdef char *at
        cdef size_t size, head
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        if frame.msg_type != WSMsgType.TEXT or read_question(frame.payload_ptr, frame.payload_size, &asked) < 1:
            return
        ready = answer_to(&asked)
        if not asked.trickles:
            transport.underlying_transport.write(PyBytes_FromStringAndSize(ready.bytes, ready.size))
            return
        at = ready.bytes
        while at < ready.bytes + ready.size:
            size, head = frame_size(at), head_size(at)
            # It rewrites the frame's head in place.
            transport.send_reuse_external_buffer(WSMsgType.TEXT, at + head, size - head)
            at += size
