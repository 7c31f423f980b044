"""A connection of our own transport: picows' listener, and the outbox that writes to its socket."""

from picows.picows cimport WSFrame, WSListener, WSMsgType

from se_server.conversation._pump cimport Outbox
from se_server.protocol._wire cimport Buffer, History


cdef class SocketOutbox(Outbox):
    cdef object _transport
    cdef object _write
    cdef object _is_closing
    cdef object _held_bytes
    cdef int _fd
    cdef bint _plain            # no TLS: send(2) may be called on the descriptor
    cdef bint _active           # something was written since the keep-alive looked
    cdef Buffer _buffer
    cdef void drop(self) noexcept
    cdef int write(self, const char* data, Py_ssize_t size) except -1


cdef class Connection(WSListener):
    cdef readonly SocketOutbox outbox
    cdef object _gone                   # Future of those who wait for the end of the socket
    cdef public object session          # told what arrives: receive, receive_error, connection_lost
    cdef readonly tuple ending          # code and reason of the first CLOSE, of whichever side
    cdef readonly bint deaf             # nothing that arrives matters any more
    cdef public bint active             # something arrived since the keep-alive looked
    cdef readonly Py_ssize_t max_message_bytes
    cdef object _loop
    cdef object _transport
    cdef object _settings
    cdef object _on_gone
    cdef object _timer                  # the write timeout, later the close timeout
    cdef object _gate                   # FrameGate
    cdef History _history
    cdef bytearray _fragments
    cdef int _fragment_count
    cdef bint _fragments_are_text
    cdef unsigned int _utf8             # the state after the fragments
    cdef int _quiet_looks
    cdef double _message_rate           # a second
    cdef double _messages_left          # of the burst, at `_counted_at`
    cdef double _counted_at             # time of the loop
    cdef int _uncounted                 # messages since then
    cdef double _control_left           # control frames, likewise
    cdef double _control_at
    cdef object _silence                # the timer of the first message
    cdef object _pong_due               # the timer of a ping that is unanswered

    cdef bint is_out_of_order(self, unsigned char opcode) noexcept
    cdef int fail_order(self) except -1
    cdef unsigned int utf8_state_before(self, unsigned char opcode) noexcept
    cdef int _add_fragment(self, WSFrame frame) except -1
    # A whole message; `data` is valid until it returns.
    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1
    cdef bint _count_message(self) except -1
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
