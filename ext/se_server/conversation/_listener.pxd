"""A connection of our own transport: picows' listener, and the outbox that writes to its socket."""

from picows.picows cimport WSFrame, WSMsgType

from se_server.conversation._batch cimport Batch
from se_server.conversation._framer cimport Framer
from se_server.conversation._outbox cimport Outbox
from se_server.conversation._rate cimport Bucket, Budget, Unfinished
from se_server.conversation._steps cimport Steps
from se_server.conversation.core cimport SessionCore
from se_server.protocol._wire cimport Buffer, History
from se_server.telemetry._clock cimport Clock
from se_server.telemetry._tape cimport Tape


cdef class Shared:
    cdef object loop
    cdef object silent                  # Deadlines
    cdef object unanswered
    cdef object on_gone
    cdef Batch batch
    cdef Framer framer
    cdef Py_ssize_t max_message_bytes
    cdef int max_fragments
    cdef double message_rate            # a second
    cdef double message_burst
    cdef double control_rate
    cdef double work_rate
    cdef Unfinished unfinished
    cdef Steps steps
    cdef Py_ssize_t high_water_bytes
    cdef double write_timeout_s
    cdef double close_timeout_s


cdef class SocketOutbox(Outbox):
    cdef object _transport
    cdef Batch _batch
    cdef Buffer _buffer
    cdef bint _is_held                  # by the batch, until its end
    cdef bint _may_hold                 # the transport may hold something back
    cdef bint _active                   # something was written since the keep-alive looked
    cdef Py_ssize_t _beyond             # bytes written since the peer reads too slowly
    # The tape of a recorded conversation; see `_recorded`.
    cdef Tape tape
    cdef unsigned int number
    cdef Clock clock
    cdef void drop(self) noexcept
    cdef int _count_beyond(self, Py_ssize_t size) except -1
    cdef int write(self, const char* data, Py_ssize_t size) except -1


cdef class Connection:
    cdef readonly SocketOutbox outbox
    cdef object _gone                   # Future, done at the end of the socket
    cdef public object session          # its receive, receive_error and connection_lost are called
    cdef SessionCore _core              # the same, unless it is not compiled
    cdef public object on_raw           # None, or called with each message as it came, which is then not decoded
    cdef public bint is_full            # `on_raw` has been given enough: nothing is read meanwhile
    cdef readonly tuple ending          # code and reason of the first CLOSE, of either side
    cdef readonly bint deaf             # ignore everything that still arrives
    cdef public bint active             # something arrived since the keep-alive looked
    cdef bint _is_silent                # the first message is waited for
    cdef bint _awaits_pong
    cdef Shared _shared
    cdef object _transport
    cdef object _gate                   # FrameGate; None when the socket is gone
    cdef object _timer                  # the write timeout, later the close timeout
    cdef History _history
    cdef bytearray _fragments
    cdef int _fragment_count
    cdef bint _fragments_are_text
    cdef unsigned int _utf8             # the state after the fragments
    cdef public int group               # of the keep-alive
    cdef bint _is_dropped               # it will be, for what it does not read
    cdef int _quiet_looks
    cdef Py_ssize_t _work               # units of work not yet taken from the budget
    cdef bint is_noted                  # its unfinished message is counted
    cdef Budget _budget                 # made by the first work to speak of
    cdef int _uncounted                 # messages not yet taken from their bucket
    cdef Bucket _messages
    cdef Bucket _controls

    cdef int receive_frame(self, WSFrame frame) except -1
    cdef int _receive_frame(self, WSFrame frame) except -1
    cdef int lost(self) except -1
    cdef int drop_soon(self) except -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cdef bint is_out_of_order(self, unsigned char opcode) noexcept
    cdef int fail_order(self) except -1
    cdef unsigned int utf8_state_before(self, unsigned char opcode) noexcept
    cdef int _add_fragment(self, WSFrame frame) except -1
    # A whole message; `data` is valid until it returns.
    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1
    cdef int _deliver_raw(self, bytes data, bint is_text) except -1
    cdef bint _count_message(self) except -1
    cdef int _count_work(self, Py_ssize_t size) except -1
    cdef int _drop_unfinished(self) except -1
    cdef int note_unfinished(self, Py_ssize_t size) except -1
    cdef bint _may_control(self) except -1
    cdef int _stop_waiting_for_pong(self) except -1
    cdef int _receive_close(self, WSFrame frame) except -1
    cdef int _note_close(self, const char* payload, Py_ssize_t size) except -1
    cdef int fail(self, int code, str reason) except -1
    cdef int hang_up(self) except -1
    cdef int peer_finished(self) except -1
    cdef int _send_control(self, WSMsgType kind, const char* payload, Py_ssize_t size) except -1
    cdef int _send_close(self, const char* payload, Py_ssize_t size) except -1
    cdef int _set_timer(self, double delay_s, action) except -1
    cdef int _shut(self) except -1
    cdef SocketOutbox make_outbox(self, transport, int fd, Batch batch)
