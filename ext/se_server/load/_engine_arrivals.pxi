# Arrivals of turns on a schedule, and the change of the load over a run.

cdef double share_at(Engine engine, int64_t now) except -1.0:
    """Return the share of the load at a time of the run."""
    cdef double at = (now - engine.began_ns) / <double> max(1, engine.end_ns - engine.began_ns)
    for (begins, low), (ends, high) in zip(engine.profile, engine.profile[1:]):
        if at < ends:
            return low + (high - low) * (at - begins) / (ends - begins)
    return high


cdef int follow_profile(Engine engine, int64_t now) except -1:
    cdef Py_ssize_t wanted = max(1, <Py_ssize_t> (share_at(engine, now) * engine.count + 0.999))
    engine.next_profile_ns = now + PROFILE_NS
    return want(engine, wanted) if wanted != engine.wanted else 0


cdef int schedule(Engine engine) except -1:
    """Set the time of the next turn: a random point of its own interval, the intervals being even."""
    cdef int64_t begins_ns = engine.arrival_base_ns, ends_ns = begins_ns
    cdef double due = 1.0, rate
    # An interval ends when one more turn is due; while the rate changes, small steps find its end.
    while due > 0.0 and ends_ns < engine.end_ns:
        rate = engine.rate * (share_at(engine, ends_ns) if engine.is_profiled else 1.0)
        if not engine.is_profiled or rate * STEP_S >= due:
            ends_ns += <int64_t> (1e9 * due / rate)
            break
        due -= rate * STEP_S
        ends_ns += STEP_NS
    engine.arrival_base_ns = ends_ns
    engine.next_arrival_ns = begins_ns + <int64_t> ((ends_ns - begins_ns) * draw_share(&engine.random))
    if engine.next_arrival_ns >= engine.end_ns or begins_ns >= engine.end_ns:
        engine.next_arrival_ns = NEVER
    return 0


cdef int arrive(Engine engine, int64_t now) except -1:
    """Ask the turns that are due. A late turn keeps its scheduled time."""
    cdef int64_t scheduled_ns
    cdef int count
    for count in range(ARRIVALS_AT_ONCE):
        if engine.next_arrival_ns > now:
            return 0
        if engine.asks_left - engine.queued <= 0:
            engine.next_arrival_ns = NEVER
            return 0
        scheduled_ns = engine.next_arrival_ns
        engine.cells[BEHIND_NS] = max(engine.cells[BEHIND_NS], now - scheduled_ns)
        schedule(engine)
        assign(engine, scheduled_ns)
    return 0


cdef int assign(Engine engine, int64_t scheduled_ns) except -1:
    """Give a turn to the next open conversation, or queue it there while a turn is open.

    While none is open, the turn waits for the first that opens: a caller would wait, too.
    """
    cdef Py_ssize_t tries
    cdef Conversation c
    for tries in range(engine.count):
        c = <Conversation> engine.conversations[engine.cursor]
        engine.cursor = (engine.cursor + 1) % engine.count
        if c.state == UP and not c.is_leaving:
            break
    else:
        engine.queued += 1
        engine.unassigned.append(scheduled_ns)
        return 0
    if c.ahead:
        c.ahead -= 1
        return 0
    if not c.is_asking:
        return ask(engine, c, scheduled_ns)
    engine.queued += 1
    return add(&c.queue, &scheduled_ns, sizeof(int64_t))


cdef int take_over(Engine engine, Conversation c) except -1:
    """Ask a turn that became due while no conversation was open."""
    engine.queued -= 1
    return ask(engine, c, engine.unassigned.popleft())


cdef int drop_unassigned(Engine engine) except -1:
    """Count the turns that no conversation can ask any more as errors."""
    engine.queued -= len(engine.unassigned)
    while engine.unassigned:
        engine.unassigned.popleft()
        if not engine.is_stopped:
            count_error(engine, None, "nobody up", "a turn was due, and no conversation was up")
    return 0


cdef int give_up(Engine engine) except -1:
    """Count the turns that are still open at the end of a run as errors."""
    cdef Conversation c
    drop_unassigned(engine)
    for c in engine.conversations:
        if c.is_asking:
            if not engine.is_stopped:
                count_error(engine, c, "unanswered", "no end of the answer a minute after the end of the run")
            c.is_asking = False
            c.deadline_ns = NEVER
            engine.open -= 1
            keep_answer(engine, c, is_cut=True)
        if c.queue.size:
            engine.queued -= c.queue.size // <Py_ssize_t> sizeof(int64_t)
            if not engine.is_stopped:
                count_error(engine, c, "unanswered", "turns that were due could not be asked: the one before had no end")
            empty(&c.queue)
    return 0
