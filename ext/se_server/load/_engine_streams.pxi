# The bytes of connections: sending, and receiving up to whole messages.

cdef int watch_writable(Engine engine, Conversation c, bint wanted) except -1:
    if c.writes != wanted:
        c.writes = wanted
        engine.poller.change(c.fd, key_of(engine, c), wanted)
    return 0


cdef int send_text(Engine engine, Conversation c, bytes text) except -1:
    engine.frame.size = 0
    add_frame(&engine.frame, TEXT, <const unsigned char*> <const char*> text, len(text), draw(&c.random))
    return put(engine, c, engine.frame.data, engine.frame.size)


cdef int put(Engine engine, Conversation c, const unsigned char* data, Py_ssize_t size) except -1:
    """Send, and keep the bytes that the socket does not accept."""
    cdef Py_ssize_t sent = 0
    engine.cells[SENT_BYTES] += size
    if not c.outbox.size:
        sent = give(engine, c, data, size)
        if sent == size or c.state == DOWN:
            return 0
    add(&c.outbox, data + sent, size - sent)
    return watch_writable(engine, c, True)


cdef int flush(Engine engine, Conversation c) except -1:
    drop(&c.outbox, give(engine, c, c.outbox.data, c.outbox.size))
    if c.state != DOWN and not c.outbox.size:
        release(&c.outbox)
        watch_writable(engine, c, False)
    return 0


cdef Py_ssize_t give(Engine engine, Conversation c, const unsigned char* data, Py_ssize_t size) except -1:
    """Return the number of bytes that the socket accepted; a lost connection accepts none."""
    cdef Py_ssize_t sent
    if c.tls is not None:
        try:
            return c.tls.send(PyMemoryView_FromMemory(<char*> data, size, PyBUF_READ))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            lose(engine, c, "cut", f"cannot send: {error}")
            return 0
    sent = send(c.fd, data, size, 0)
    if sent >= 0:
        return sent
    if errno != EAGAIN and errno != EINTR:
        lose(engine, c, "cut", f"cannot send: {os.strerror(errno)}")
    return 0


cdef Py_ssize_t take(Engine engine, Conversation c, unsigned char* data, Py_ssize_t room) except -2:
    """Return the number of bytes received; 0 if there are none now, -1 if the connection is lost."""
    cdef Py_ssize_t received
    if c.tls is not None:
        try:
            received = c.tls.recv_into(PyMemoryView_FromMemory(<char*> data, room, PyBUF_WRITE))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            lose(engine, c, "cut", f"{SHORT}: {error}")
            return -1
    else:
        received = recv(c.fd, data, room, 0)
        if received < 0:
            if errno == EAGAIN or errno == EINTR:
                return 0
            lose(engine, c, "cut", f"{SHORT}: {os.strerror(errno)}")
            return -1
    if received == 0:
        lose(engine, c, "no HTTP" if c.state == UPGRADING else "cut", SHORT)
        return -1
    engine.cells[RECEIVED_BYTES] += received
    return received


cdef int read(Engine engine, Conversation c) except -1:
    """Read all available bytes, and handle every whole frame."""
    cdef Py_ssize_t size, got, used
    cdef unsigned char* data
    while True:
        engine.inbox.size = 0
        reserve(&engine.inbox, c.rest.size + INBOX)
        data = engine.inbox.data
        size = c.rest.size
        memcpy(data, c.rest.data, size)
        got = take(engine, c, data + size, INBOX)
        if got <= 0:
            return 0
        size += got
        used = 0
        if c.state == UPGRADING:
            used = answered_upgrade(engine, c, data, size)
        if c.state >= UP:
            used += hear_frames(engine, c, data + used, size - used)
        if c.state == DOWN:
            return 0
        c.rest.size = 0
        if used < size:
            add(&c.rest, data + used, size - used)
        elif c.rest.room:
            release(&c.rest)
        if got < INBOX and (c.tls is None or not c.tls.pending()):
            return 0


cdef Py_ssize_t hear_frames(Engine engine, Conversation c, const unsigned char* data, Py_ssize_t size) except -1:
    """Handle whole frames, and return the number of bytes used."""
    cdef Frame frame
    cdef Py_ssize_t used = 0, step
    cdef int64_t now = now_ns()
    while used < size:
        step = read_frame(data + used, size - used, &frame)
        if step <= 0:
            if step < 0:
                lose(engine, c, "bad frame", f"the server sent {frame.fault.decode()}")
            break
        used += step
        if frame.opcode == TEXT and frame.is_last and not c.in_fragments:
            if c.state == UP:
                hear(engine, c, frame.payload, frame.size, now)
        else:
            hear_other(engine, c, &frame, now)
        if c.state == DOWN:
            break
    return used


cdef int hear_other(Engine engine, Conversation c, Frame* frame, int64_t now) except -1:
    """Handle control frames and fragments (RFC 6455, 5.4 and 5.5)."""
    if frame.opcode == PING:
        engine.cells[PINGS] += 1
        engine.frame.size = 0
        add_frame(&engine.frame, PONG, frame.payload, frame.size, draw(&c.random))
        return put(engine, c, engine.frame.data, engine.frame.size)
    if frame.opcode == PONG:
        return 0
    if frame.opcode == CLOSE:
        said = "no code" if frame.size < 2 else f"code {frame.payload[0] << 8 | frame.payload[1]}"
        if frame.size > 2:
            said += f" ({(<const char*> frame.payload)[2:frame.size].decode('utf-8', 'replace')!r})"
        if c.state == UP:
            engine.frame.size = 0
            add_frame(&engine.frame, CLOSE, frame.payload, min(frame.size, 2), draw(&c.random))
            put(engine, c, engine.frame.data, engine.frame.size)
        return 0 if c.state == DOWN else lose(engine, c, "cut", f"the server closed the conversation with {said}")
    if frame.opcode == BINARY:
        return lose(engine, c, "bad frame", "the server sent a binary message")
    if (frame.opcode == TEXT) == c.in_fragments:
        return lose(engine, c, "bad frame", "the server sent fragments out of order")
    if c.message.size + frame.size > MAX_MESSAGE:
        return lose(engine, c, "bad frame", "the server sent a message of over 16 MiB")
    c.in_fragments = True
    add(&c.message, frame.payload, frame.size)
    if frame.is_last:
        c.in_fragments = False
        if c.state == UP:
            hear(engine, c, c.message.data, c.message.size, now)
        empty(&c.message)
    return 0
