# how calls begin and end, and their bytes.

cdef int want(Engine engine, Py_ssize_t wanted) except -1:
    """Let this many of the conversations, the first ones, be up from now on."""
    cdef Py_ssize_t place
    cdef Conversation c
    for place in range(wanted, engine.count):
        c = <Conversation> engine.conversations[place]
        if c.state == UP and not c.is_leaving:
            c.is_leaving = True
            if not c.is_asking:
                say_goodbye(engine, c)
    for place in range(engine.wanted, wanted):
        c = <Conversation> engine.conversations[place]
        if c.state == DOWN:
            engine.waiting.append(place)
    engine.wanted = wanted
    return 0


cdef int call_waiting(Engine engine, int64_t now) except -1:
    """Let those call whose turn it is: at a rate, or some at once."""
    cdef Conversation c
    while engine.waiting:
        if engine.connect_gap_ns:
            if engine.next_connect_ns > now:
                return 0
        elif engine.under_way >= AT_ONCE:
            return 0
        c = <Conversation> engine.conversations[engine.waiting.popleft()]
        if c.state != DOWN or c.place >= engine.wanted:
            continue
        # A scheduled moment that has passed counts, too: who is late to call has waited.
        call(engine, c, engine.next_connect_ns if engine.connect_gap_ns else now)
        engine.next_connect_ns += engine.connect_gap_ns
    return 0


cdef int call(Engine engine, Conversation c, int64_t scheduled_ns) except -1:
    family, address = engine.target.addresses[engine.address]
    c.asked_ns = scheduled_ns
    c.asked = 0
    c.generation += 1
    c.watched_ns = NEVER
    try:
        c.sock = socket.socket(family, socket.SOCK_STREAM)
        c.sock.setblocking(False)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if engine.plan.source_addresses:
            if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):
                c.sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            sources = engine.plan.source_addresses
            c.sock.bind((sources[c.number % len(sources)], 0))
        failed = c.sock.connect_ex(address)
    except OSError as error:
        failed = error.errno
    if failed and failed not in (EAGAIN, EINPROGRESS):
        return no_connection(engine, c, failed)
    c.fd = c.sock.fileno()
    c.state = CONNECTING
    engine.under_way += 1
    engine.poller.add(c.fd, key_of(engine, c), True)
    c.writes = True
    return watch(engine, c, now_ns() + CONNECT_TIMEOUT_NS)


cdef inline uint64_t key_of(Engine engine, Conversation c) noexcept:
    return (<uint64_t> c.generation << 32) | <uint64_t> c.place


cdef int no_connection(Engine engine, Conversation c, int failed) except -1:
    if failed in (ECONNREFUSED, EHOSTUNREACH, ENETUNREACH) and engine.address + 1 < len(engine.target.addresses) and not engine.cells[OPENED]:
        engine.address += 1                     # a host may have addresses that nobody listens at
        shut(engine, c)
        engine.waiting.append(c.place)
        return 0
    kind = "refused" if failed == ECONNREFUSED else "connect"
    return lose(engine, c, kind, f"cannot connect: {os.strerror(failed)}")


cdef int connected(Engine engine, Conversation c) except -1:
    failed = c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        return no_connection(engine, c, failed)
    if engine.target.context is None:
        return upgrade(engine, c)
    c.state = SECURING
    fd = c.fd
    try:
        engine.poller.remove(fd)                # the wrapped socket takes the descriptor over
        c.sock = c.tls = engine.target.context.wrap_socket(
            c.sock, server_hostname=engine.target.host, do_handshake_on_connect=False
        )
    except OSError as error:
        c.fd = -1
        return lose(engine, c, "TLS", f"the TLS handshake failed: {error}")
    c.fd = c.tls.fileno()
    c.writes = False
    engine.poller.add(c.fd, key_of(engine, c), False)
    return secure(engine, c)


cdef int secure(Engine engine, Conversation c) except -1:
    try:
        c.tls.do_handshake()
    except ssl.SSLWantReadError:
        return watch_writable(engine, c, False)
    except ssl.SSLWantWriteError:
        return watch_writable(engine, c, True)
    except OSError as error:
        return lose(engine, c, "TLS", f"the TLS handshake failed: {error}")
    return upgrade(engine, c)


cdef int upgrade(Engine engine, Conversation c) except -1:
    request, c.key = engine.target.upgrade()
    c.state = UPGRADING
    watch_writable(engine, c, False)
    return put(engine, c, <const unsigned char*> <const char*> request, len(request))


cdef int answered_upgrade(Engine engine, Conversation c, const unsigned char* data, Py_ssize_t size) except -1:
    """The size of the head; 0 if more of it has to come, or if the connection is lost."""
    cdef bytes head = (<const char*> data)[:min(size, HEAD_LIMIT)]
    end = head.find(b"\r\n\r\n")
    if end < 0:
        if size >= HEAD_LIMIT:
            lose(engine, c, "no HTTP", "the server answered the upgrade with over 64 KiB")
        return 0
    wrong = what_is_wrong(head[: end + 4], c.key)
    if wrong is not None:
        lose(engine, c, wrong[0], wrong[1])
        return 0
    cdef int64_t now = now_ns()
    engine.handshake.record_ns(now - c.asked_ns)
    engine.under_way -= 1
    c.state = UP
    c.key = None
    c.deadline_ns = NEVER
    c.calls += 1
    c.is_leaving = c.place >= engine.wanted
    engine.cells[UP_NOW] += 1
    engine.cells[OPENED] += 1
    if engine.call_ns:
        # Those that come together do not leave together.
        lasts = draw_share(&c.random) if c.calls == 1 else 0.5 + draw_share(&c.random)
        push(&engine.timers, now + <int64_t> (engine.call_ns * lasts), c.place, c.generation, HANG_UP)
    begin_transcript(engine, c)
    name = f"conv_load_{c.number}" if c.calls == 1 else f"conv_load_{c.number}_{c.calls}"
    init = json.dumps({"type": "init", "conversation_id": name}).encode()
    send_text(engine, c, init)
    if c.state == UP and c.is_leaving:
        say_goodbye(engine, c)
    elif c.state == UP and engine.is_running:
        begin_asking(engine, c, now)
    return end + 4


cdef int say_goodbye(Engine engine, Conversation c) except -1:
    """Say goodbye, and let the server close."""
    send_text(engine, c, GOODBYE)
    if c.state != UP:
        return 0
    c.state = LEAVING
    watch(engine, c, now_ns() + LEAVE_TIMEOUT_NS)
    engine.frame.size = 0
    add_frame(&engine.frame, CLOSE, <const unsigned char*> b"\x03\xe8", 2, draw(&c.random))
    return put(engine, c, engine.frame.data, engine.frame.size)


cdef int lose(Engine engine, Conversation c, str kind, str what) except -1:
    """The connection is lost; what was open of its turn is lost with it, and counts once."""
    cdef State state = c.state
    if state != LEAVING:
        count_error(engine, c, kind, what)
    shut(engine, c)
    if state != LEAVING and engine.is_running and engine.calls_again:
        engine.calls_due += 1
        push(&engine.timers, now_ns() + <int64_t> (CALL_AGAIN_NS * (0.5 + draw_share(&c.random))), c.place, 0, CALL)
    return 0


cdef int shut(Engine engine, Conversation c) except -1:
    """Close the socket and forget what belonged to it."""
    cdef State state = c.state
    cdef int64_t scheduled_ns
    c.state = DOWN
    c.generation += 1
    if state in (CONNECTING, SECURING, UPGRADING):
        engine.under_way -= 1
    elif state != DOWN:
        engine.cells[UP_NOW] -= 1
        engine.cells[CLOSED] += 1
    if c.fd >= 0:
        engine.poller.remove(c.fd)
        c.fd = -1
    if c.sock is not None:
        c.sock.close()
    c.sock = c.tls = None
    release(&c.outbox)
    release(&c.rest)
    release(&c.message)
    c.in_fragments = c.is_leaving = False
    if c.is_asking:
        c.is_asking = False
        engine.open -= 1
    c.ahead = 0
    while c.queue.size:
        memcpy(&scheduled_ns, c.queue.data, sizeof(int64_t))
        drop(&c.queue, sizeof(int64_t))
        engine.queued -= 1
        assign(engine, scheduled_ns)
    if state == LEAVING and engine.is_running and c.place < engine.wanted:
        engine.waiting.append(c.place)
    return 0


# --- bytes ----------------------------------------------------------------------------------------------------------

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
    """Send, and keep what the socket does not take."""
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
    """How much the socket took; a connection that is lost takes nothing."""
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
    """How much was received; 0 if nothing is there, -1 if nothing will come: the connection is lost then."""
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
    """Read what is there, and hear every whole frame of it."""
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
    """How much was used up."""
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
    """Control frames and fragments (RFC 6455, 5.4 and 5.5)."""
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
