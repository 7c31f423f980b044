# Beginning and ending connections.

cdef int want(Engine engine, Py_ssize_t wanted) except -1:
    """Keep the first `wanted` conversations open from now on, and let the others end."""
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
    """Connect waiting conversations: at a rate, or some at once."""
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
        # A scheduled time in the past counts as the start: the delay is part of the handshake's time.
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
        engine.address += 1  # a host may have addresses without a listener
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
        engine.poller.remove(fd)  # the wrapped socket takes over the descriptor
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
    """Return the size of the head; 0 if it is incomplete, or if the connection is lost."""
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
        # Conversations that begin together do not end together.
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
    """Send `close` and a CLOSE frame, and let the server close the connection."""
    send_text(engine, c, GOODBYE)
    if c.state != UP:
        return 0
    c.state = LEAVING
    watch(engine, c, now_ns() + LEAVE_TIMEOUT_NS)
    engine.frame.size = 0
    add_frame(&engine.frame, CLOSE, <const unsigned char*> b"\x03\xe8", 2, draw(&c.random))
    return put(engine, c, engine.frame.data, engine.frame.size)


cdef int lose(Engine engine, Conversation c, str kind, str what) except -1:
    """Count a lost connection as one error, drop its open turn, and schedule a new call."""
    cdef State state = c.state
    if state != LEAVING:
        count_error(engine, c, kind, what)
    shut(engine, c)
    if state != LEAVING and engine.is_running and engine.calls_again:
        engine.calls_due += 1
        push(&engine.timers, now_ns() + <int64_t> (CALL_AGAIN_NS * (0.5 + draw_share(&c.random))), c.place, 0, CALL)
    return 0


cdef int shut(Engine engine, Conversation c) except -1:
    """Close the socket and reset the state of its connection."""
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
