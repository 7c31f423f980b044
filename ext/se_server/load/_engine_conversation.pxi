# One caller's place.

cdef enum State:
    DOWN = 0
    CONNECTING  # TCP
    SECURING  # the TLS handshake
    UPGRADING
    UP
    LEAVING


cdef class Conversation:
    """One caller's place: its connection, its transcript and its turn. After hanging up, the next call uses the same
    place.
    """
    cdef int32_t place
    cdef int64_t number
    cdef int calls  # the number of connections so far
    cdef State state
    cdef uint32_t generation  # the generation known to timers and the poller; others are stale
    cdef object sock
    cdef object tls  # the same socket, if it speaks TLS
    cdef int fd
    cdef bint writes  # whether the poller also reports when it is writable
    cdef bytes key  # the key of the upgrade request
    cdef uint64_t random
    cdef bint is_ascii
    cdef bint is_leaving
    cdef int64_t deadline_ns
    cdef int64_t watched_ns  # when the timer is due that checks the deadline
    cdef Bytes outbox  # bytes that the socket did not accept
    cdef Bytes rest  # the beginning of an incomplete frame
    cdef Bytes message  # fragments of a message
    cdef bint in_fragments
    # The transcript: everything before its closing bracket, and the position of the current answer's text.
    cdef Bytes text
    cdef Py_ssize_t messages
    cdef Py_ssize_t base  # the size of a history that stays the same
    cdef Py_ssize_t message_at  # the start of the agent's message; 0 while there is none
    cdef Py_ssize_t answer_at
    cdef Py_ssize_t phrase
    # The turn.
    cdef bint is_asking
    cdef bint is_wrong
    cdef bint is_sample
    cdef int64_t event_id
    cdef char id_text[NUMBER_MAX]
    cdef Py_ssize_t id_size
    cdef int64_t asked_ns
    cdef int64_t asked
    cdef int texts
    cdef int64_t heard_bytes  # of the answer's texts
    cdef int tries
    cdef int interrupt_at  # the number of texts before an interruption; 0 for none
    cdef Bytes queue  # scheduled times of turns that wait for this one to end
    cdef int ahead  # turns asked before their time, by interruptions

    def __dealloc__(self):
        release(&self.outbox)
        release(&self.rest)
        release(&self.message)
        release(&self.text)
        release(&self.queue)
