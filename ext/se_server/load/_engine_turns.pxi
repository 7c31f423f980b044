# Transcripts, questions, and the handling of answers.

cdef int begin_transcript(Engine engine, Conversation c) except -1:
    """Begin a transcript with an empty history, or with one of the plan's length."""
    cdef Py_ssize_t old = 0, place
    c.text.size = c.messages = c.message_at = 0
    c.event_id = draw(&c.random) % ID_STEP
    add_bytes(&c.text, HEAD)
    if engine.history:
        old = engine.history - 1
    elif engine.plan.is_staggered and c.calls == 1:
        old = 2 * (draw(&c.random) % (engine.max_history // 2 or 1))
    # The newest message of a transcript is the user's: roles alternate back from it.
    for place in range(old, 0, -1):
        begin_message(engine, c, USER if place % 2 == 0 else AGENT)
        if place % 2 == 0:
            add_phrase(engine, c)
        else:
            add_bytes(&c.text, engine.agent_phrases[draw(&c.random) % len(engine.agent_phrases)])
        add_bytes(&c.text, END)
    c.base = c.text.size
    return 0


cdef inline int begin_message(Engine engine, Conversation c, bytes start) except -1:
    if c.messages:
        add_bytes(&c.text, COMMA)
    add_bytes(&c.text, start)
    c.messages += 1
    return 0


cdef int add_phrase(Engine engine, Conversation c) except -1:
    """Add a phrase of the user, other than the last one."""
    cdef Py_ssize_t count = len(engine.phrases)
    c.phrase = (c.phrase + 1 + draw(&c.random) % (count - 1)) % count
    return add_bytes(&c.text, (engine.ascii_phrases if c.is_ascii else engine.phrases)[c.phrase])


cdef inline bint may_ask(Engine engine, int64_t now) noexcept:
    return engine.is_running and now < engine.end_ns and engine.asks_left > 0


cdef int begin_asking(Engine engine, Conversation c, int64_t now) except -1:
    """Ask a turn that waits for a conversation, or the first of a closed loop, spread over the think times."""
    if engine.unassigned and not c.is_leaving:
        return take_over(engine, c)
    if engine.is_open_loop or c.is_leaving or not may_ask(engine, now):
        return 0
    if engine.think_ns:
        return push(
            &engine.timers, now + <int64_t> (engine.think_ns * draw_share(&c.random)), c.place, c.generation, ASK
        )
    return ask(engine, c, 0)


cdef int go_on(Engine engine, Conversation c, int64_t now) except -1:
    """After a turn: ask the next one, pause, or end the conversation."""
    cdef int64_t scheduled_ns
    if c.state != UP:
        return 0
    if c.queue.size:
        memcpy(&scheduled_ns, c.queue.data, sizeof(int64_t))
        drop(&c.queue, sizeof(int64_t))
        engine.queued -= 1
        return ask(engine, c, scheduled_ns)
    if c.is_leaving:
        return say_goodbye(engine, c)
    if engine.unassigned:
        return take_over(engine, c)
    if engine.is_open_loop or not may_ask(engine, now):
        return 0
    if engine.think_ns:
        now += <int64_t> (engine.think_ns * (0.5 + draw_share(&c.random)))
        return push(&engine.timers, now, c.place, c.generation, ASK)
    return ask(engine, c, 0)


cdef int ask(Engine engine, Conversation c, int64_t scheduled_ns) except -1:
    """Add the user's message and send the transcript. `scheduled_ns` is the start of the latency; 0 is now."""
    cdef int64_t now
    if not engine.history and c.messages >= engine.max_history:
        c.text.size = len(HEAD)
        c.messages = 0
    c.event_id += 1 + <int64_t> (draw(&c.random) % ID_STEP)
    c.id_size = snprintf(c.id_text, NUMBER_MAX, b"%lld", <long long> c.event_id)
    begin_message(engine, c, USER)
    if engine.chunks:
        add_order(engine, c)
    add_phrase(engine, c)
    add_bytes(&c.text, END)
    c.is_asking = True
    c.is_wrong = False
    # Spread the samples over the conversations, so that not all are checked in full at the same time.
    c.is_sample = (c.number + c.asked) % SAMPLE_EVERY == 0
    c.asked += 1
    c.texts = 0
    c.heard_bytes = 0
    c.tries = 0
    c.message_at = 0
    c.interrupt_at = 0
    if engine.interruption_rate and draw_share(&c.random) < engine.interruption_rate:
        c.interrupt_at = 1 + draw(&c.random) % INTERRUPT_WITHIN
    engine.open += 1
    engine.asks_left -= 1
    engine.cells[ASKED] += 1
    now = now_ns()
    c.asked_ns = scheduled_ns or now
    return transmit(engine, c, now)


cdef int add_order(Engine engine, Conversation c) except -1:
    """Add the order for the benchmark's handler: "CHUNKS TAG "."""
    cdef char order[64]
    cdef int size = snprintf(
        order, sizeof(order), b"%lld c%llde%lld", <long long> engine.chunks, <long long> c.number, <long long> c.event_id
    )
    add(&c.text, order, size)
    return add_bytes(&c.text, engine.tail)


cdef int transmit(Engine engine, Conversation c, int64_t now) except -1:
    cdef Py_ssize_t size = c.text.size
    c.tries += 1
    watch(engine, c, now + (engine.resend_ns or FINAL_TIMEOUT_NS))
    add(&c.text, b'], "event_id": ', 15)
    add(&c.text, c.id_text, c.id_size)
    add(&c.text, b"}", 1)
    engine.frame.size = 0
    add_frame(&engine.frame, TEXT, c.text.data, c.text.size, draw(&c.random))
    c.text.size = size
    return put(engine, c, engine.frame.data, engine.frame.size)


cdef int overdue(Engine engine, Conversation c, int64_t now) except -1:
    """Handle a deadline that has passed."""
    if c.state == LEAVING:
        return shut(engine, c)
    if c.state != UP:
        return lose(engine, c, "timeout", "the handshake took over 10 s")
    if not c.is_asking:
        return 0
    if not c.texts and engine.resend_ns and c.tries < TRIES:
        engine.cells[RESENDS] += 1
        return transmit(engine, c, now)
    if c.texts:
        count_error(engine, c, "no final", f"{c.texts} texts, and no final within 30 s")
    else:
        waited_s = (now - c.asked_ns) / 1e9
        count_error(engine, c, "silent", f"no answer within {waited_s:.0f} s, though it was asked {c.tries} times")
        # The live API ends such a conversation.
        c.is_leaving |= engine.calls_again
    return end_turn(engine, c, now, is_cut=False)


cdef int hear(Engine engine, Conversation c, const unsigned char* data, Py_ssize_t size, int64_t now) except -1:
    """Handle a whole message."""
    cdef Heard heard
    cdef const unsigned char* content
    cdef Py_ssize_t content_size
    if read_message(engine.shapes, data, size, <const unsigned char*> c.id_text, c.id_size, &heard) < 0:
        text = (<const char*> data)[:min(size, 120)].decode("utf-8", "replace")
        return count_error(engine, c, "bad message", f"{heard.fault.decode()}: {text!r}")
    if not heard.is_response:
        return 0
    content = heard.content.start + 1
    content_size = heard.content.end - heard.content.start - 2
    if not heard.has_our_id or not c.is_asking:
        engine.cells[LATE_TEXTS] += content_size != 0
        return 0
    if content_size:
        c.texts += 1
        engine.cells[CHUNKS] += 1
        if c.texts == 1:
            engine.first_chunk.record_ns(now - c.asked_ns)
            c.deadline_ns = c.asked_ns + FINAL_TIMEOUT_NS
        if not engine.history:
            if not c.message_at:
                c.message_at = c.text.size
                begin_message(engine, c, AGENT)
                c.answer_at = c.text.size
            add(&c.text, content, content_size)
        c.heard_bytes += content_size
        if engine.chunks and engine.joined_bytes < 0:
            check_text(engine, c, &heard)
    if heard.is_final:
        return hear_final(engine, c, content_size, now)
    if c.interrupt_at and c.texts >= c.interrupt_at:
        return interrupt(engine, c, now)
    return 0


cdef int check_text(Engine engine, Conversation c, Heard* heard) except -1:
    """Check a text of the benchmark's handler: the first is the tag; the others are checked in some turns."""
    cdef Py_ssize_t size = heard.content.end - heard.content.start - 2
    cdef const unsigned char* content = heard.content.start + 1
    cdef char tag[64]
    cdef Py_ssize_t tag_size
    cdef bytes word
    if c.is_wrong:
        return 0
    if c.texts == 1:
        tag_size = snprintf(tag, sizeof(tag), b"c%llde%lld", <long long> c.number, <long long> c.event_id)
        if size == tag_size and memcmp(content, tag, size) == 0:
            return 0
        word = tag[:tag_size]
    elif not c.is_sample or c.texts > len(engine.words):
        return 0
    else:
        word = engine.words[c.texts - 1]
        if size == len(word) and memcmp(content, <const char*> word, size) == 0:
            return 0
    text = (<const char*> content)[:size].decode("utf-8", "replace")
    if heard.content.escaped and json.loads(f'"{text}"') == json.loads(f'"{word.decode()}"'):
        return 0
    c.is_wrong = True
    return count_error(engine, c, "wrong answer", f"text {c.texts} is {text[:80]!r}, and should be {word.decode()!r}")


cdef int check_size(Engine engine, Conversation c) except -1:
    """Check the size of an answer whose texts may have come joined: the tag and the words."""
    cdef int64_t expected = engine.joined_bytes + snprintf(
        NULL, 0, b"c%llde%lld", <long long> c.number, <long long> c.event_id
    )
    if c.heard_bytes != expected:
        c.is_wrong = True
        count_error(engine, c, "wrong answer", f"{c.heard_bytes} bytes of texts, and should be {expected}")
    return 0


cdef int hear_final(Engine engine, Conversation c, Py_ssize_t content_size, int64_t now) except -1:
    if engine.chunks and not c.is_wrong:
        if content_size:
            c.is_wrong = True
            count_error(engine, c, "wrong answer", "the final has a text")
        elif engine.joined_bytes >= 0:
            check_size(engine, c)
        elif c.texts != engine.chunks:
            c.is_wrong = True
            count_error(engine, c, "wrong answer", f"{c.texts} texts, and should be {engine.chunks}")
    if not c.is_wrong:
        engine.final.record_ns(now - c.asked_ns)
        engine.cells[TURNS] += 1
        engine.cells[INTERRUPTED] += c.interrupt_at != 0 and c.texts != 0
    return end_turn(engine, c, now, is_cut=c.interrupt_at != 0)


cdef int interrupt(Engine engine, Conversation c, int64_t now) except -1:
    """Let the user interrupt the answer: send the next transcript now, or let the turn continue if none may be sent."""
    if c.is_leaving or c.queue.size or not may_ask(engine, now):
        return 0
    engine.cells[TURNS] += not c.is_wrong
    engine.cells[INTERRUPTED] += 1
    c.is_asking = False
    engine.open -= 1
    keep_answer(engine, c, is_cut=True)
    # Interruptions ignore the schedule; the turn is then not asked again at its scheduled time.
    c.ahead += engine.is_open_loop
    return ask(engine, c, 0)


cdef int end_turn(Engine engine, Conversation c, int64_t now, bint is_cut) except -1:
    c.is_asking = False
    c.deadline_ns = NEVER
    engine.open -= 1
    keep_answer(engine, c, is_cut)
    return go_on(engine, c, now)


cdef int keep_answer(Engine engine, Conversation c, bint is_cut) except -1:
    """Add the answer to the history: in full, or the part that the user heard."""
    cdef Py_ssize_t size
    if engine.history:
        c.text.size = c.base
        c.messages = engine.history - 1
        return 0
    if not c.message_at:
        return 0
    if is_cut:
        size = c.text.size - c.answer_at
        # At least the first character was heard, which may be an escaped surrogate pair.
        size = cut_before(c.text.data + c.answer_at, size, max(12, 1 + draw(&c.random) % size))
        c.text.size = c.answer_at + size
    c.message_at = 0
    return add_bytes(&c.text, END)
