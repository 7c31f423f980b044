# One caller's place.

cdef enum State:
    DOWN = 0
    CONNECTING                                 # of TCP
    SECURING                                   # TLS shakes hands
    UPGRADING
    UP
    LEAVING


cdef class Conversation:
    """One caller's place: its connection, its transcript, its turn. Who hangs up calls again from the same place."""
    cdef int32_t place
    cdef int64_t number
    cdef int calls                             # how many times it has called
    cdef State state
    cdef uint32_t generation                   # of what timers and the poller know
    cdef object sock
    cdef object tls                            # the same socket, if it speaks TLS
    cdef int fd
    cdef bint writes                           # the poller also tells when it is writable
    cdef bytes key                             # of the upgrade request
    cdef uint64_t random
    cdef bint is_ascii
    cdef bint is_leaving
    cdef int64_t deadline_ns
    cdef int64_t watched_ns                    # when the timer is due that looks at the deadline
    cdef Bytes outbox                          # what the socket did not take
    cdef Bytes rest                            # of a frame that is not all there
    cdef Bytes message                         # fragments
    cdef bint in_fragments
    # Its transcript: all that stands before the closing bracket, and where the answer that comes has its text.
    cdef Bytes text
    cdef Py_ssize_t messages
    cdef Py_ssize_t base                       # of a history that stays the same: its bytes
    cdef Py_ssize_t message_at                 # where the agent's message starts; 0 while there is none
    cdef Py_ssize_t answer_at
    cdef Py_ssize_t phrase
    # Its turn.
    cdef bint is_asking
    cdef bint is_wrong
    cdef bint is_sample
    cdef int64_t event_id
    cdef char id_text[NUMBER_MAX]
    cdef Py_ssize_t id_size
    cdef int64_t asked_ns
    cdef int64_t asked
    cdef int texts
    cdef int tries
    cdef int interrupt_at                      # after so many texts; 0 for a user who waits
    cdef Bytes queue                           # moments of turns that wait for this one to end
    cdef int ahead                             # turns asked before their time, by interruptions

    def __dealloc__(self):
        release(&self.outbox)
        release(&self.rest)
        release(&self.message)
        release(&self.text)
        release(&self.queue)
