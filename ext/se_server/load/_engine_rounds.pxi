# The rounds of the loop: due timers, then ready sockets.

cdef Conversation new_conversation(Engine engine, Py_ssize_t place):
    cdef Conversation c = Conversation.__new__(Conversation)
    c.place = place
    c.number = engine.plan.first_number + place
    c.random = (<uint64_t> engine.plan.seed << 32) ^ <uint64_t> c.number
    c.random = draw(&c.random)
    c.is_ascii = draw(&c.random) % 8 == 0
    c.fd = -1
    return c


cdef int begin_round(Engine engine) except -1:
    engine.errors.clear()
    engine.failures.clear()
    engine.is_stopped = False
    engine.cells[ERRORS] = 0
    engine.began_ns = now_ns()
    engine.cpu_began_ns = clock(CLOCK_PROCESS_CPUTIME_ID)
    engine.poller.spun_ns = 0
    engine.next_publish_ns = engine.began_ns
    if engine.control >= 0:
        engine.poller.add(engine.control, CONTROL, False)
    return 0


cdef int end_round(Engine engine) except -1:
    publish(engine, now_ns())
    if engine.control >= 0 and not engine.is_stopped:
        engine.poller.remove(engine.control)
    return 0


cdef int publish(Engine engine, int64_t now) except -1:
    engine.cells[CPU_NS] = clock(CLOCK_PROCESS_CPUTIME_ID) - engine.cpu_began_ns - engine.poller.spun_ns
    engine.cells[WALL_NS] = now - engine.began_ns
    engine.next_publish_ns = now + PUBLISH_NS
    return 0


cdef int go_round(Engine engine, int64_t until_ns) except -1:
    """Run one round: due timers, then ready sockets."""
    cdef int64_t now = now_ns(), next_ns
    cdef int count, place
    PyErr_CheckSignals()
    while engine.timers.size and engine.timers.heap[0].at_ns <= now:
        fire(engine, pop(&engine.timers), now)
    if engine.is_running:
        if now >= engine.next_profile_ns and now < engine.end_ns and engine.is_profiled:
            follow_profile(engine, now)
        if engine.next_arrival_ns <= now:
            arrive(engine, now)
    if engine.waiting:
        call_waiting(engine, now)
    if now >= engine.next_publish_ns:
        publish(engine, now)
    next_ns = min(until_ns, engine.next_publish_ns)
    if engine.timers.size:
        next_ns = min(next_ns, engine.timers.heap[0].at_ns)
    if engine.is_running:
        next_ns = min(next_ns, engine.next_arrival_ns)
    if engine.waiting and (engine.connect_gap_ns or engine.under_way < AT_ONCE):
        next_ns = min(next_ns, engine.next_connect_ns)
    count = engine.poller.wait(max(0, next_ns - now_ns()), engine.spins and engine.is_running)
    for place in range(count):
        meet(engine, &engine.poller.ready[place])
    return 0


cdef int meet(Engine engine, Ready* ready) except -1:
    """Handle a ready socket."""
    cdef Conversation c
    if ready.key == CONTROL:
        engine.is_stopped = True
        engine.poller.remove(engine.control)
        return 0
    c = <Conversation> engine.conversations[<Py_ssize_t> (ready.key & 0xFFFFFFFF)]
    if c.generation != ready.key >> 32 or c.state == DOWN:
        return 0  # it belongs to a connection that ended in this round
    if c.state == CONNECTING:
        return connected(engine, c)
    if c.state == SECURING:
        return secure(engine, c)
    if ready.writes and c.outbox.size:
        flush(engine, c)
    if ready.reads and c.state >= UPGRADING:
        read(engine, c)
    return 0


cdef int fire(Engine engine, Timer timer, int64_t now) except -1:
    cdef Conversation c = <Conversation> engine.conversations[timer.place]
    if timer.due == CALL:
        engine.calls_due -= 1
        if engine.is_running and c.state == DOWN and c.place < engine.wanted:
            engine.waiting.append(c.place)
        return 0
    if timer.generation != c.generation or c.state == DOWN:
        return 0
    if timer.due == WATCH:
        if timer.at_ns == c.watched_ns:
            c.watched_ns = NEVER
            if now >= c.deadline_ns:
                overdue(engine, c, now)
            elif c.deadline_ns != NEVER:
                watch(engine, c, c.deadline_ns)
    elif timer.due == ASK:
        if c.state == UP and not c.is_asking and not c.is_leaving and may_ask(engine, now):
            ask(engine, c, 0)
    elif c.state == UP:
        c.is_leaving = True
        if not c.is_asking:
            say_goodbye(engine, c)
    return 0


cdef int watch(Engine engine, Conversation c, int64_t deadline_ns) except -1:
    """Set the deadline of the next event. An earlier timer suffices: it checks again when it fires."""
    c.deadline_ns = deadline_ns
    if deadline_ns < c.watched_ns:
        c.watched_ns = deadline_ns
        push(&engine.timers, deadline_ns, c.place, c.generation, WATCH)
    return 0


cdef int count_error(Engine engine, Conversation c, str kind, str what) except -1:
    """Count an error, and keep the first few of each kind in words."""
    engine.cells[ERRORS] += 1
    count = engine.errors[kind] = engine.errors.get(kind, 0) + 1
    if count <= FAILURES_KEPT:
        where = "" if c is None else f"conversation {c.number}, turn {c.asked}: " if c.asked else f"conversation {c.number}: "
        engine.failures.append(f"{kind}: {where}{what}")
    return 0
