# Transcripts: entries become messages; those that have not changed since the last transcript are not read again.

cdef int scan_entry(Scan* scan, Value* entry, Value* role, Value* content) noexcept nogil:
    """One entry of the transcript, whatever it is; `role` and `content` are what its last such members hold."""
    cdef Value name
    cdef Value other
    cdef Value* value
    cdef unsigned char room[6 * NAME_MAX]
    cdef const unsigned char* word
    cdef Py_ssize_t size
    role.kind = content.kind = MISSING
    if scan.at >= scan.end or scan.at[0] != c"{":
        return scan_value(scan, entry, 2)
    entry.kind = OBJECT
    entry.start = scan.at
    scan.at += 1
    skip_blanks(scan)
    if scan.at < scan.end and scan.at[0] == c"}":
        scan.at += 1
        entry.end = scan.at
        return 0
    while True:
        skip_blanks(scan)
        if has_name(scan, b'"role":', 7):
            value = role
        elif has_name(scan, b'"content":', 10):
            value = content
        else:
            if scan_name(scan, &name) < 0:
                return -1
            size = plain_name(&name, room, &word)
            if size == 4 and memcmp(word, b"role", 4) == 0:
                value = role
            elif size == 7 and memcmp(word, b"content", 7) == 0:
                value = content
            else:
                value = &other
        if scan_value(scan, value, 3) < 0:
            return -1
        skip_blanks(scan)
        if scan.at < scan.end and scan.at[0] == c"}":
            scan.at += 1
            entry.end = scan.at
            return 0
        if expect(scan, c",", b"expected ',' or '}'") < 0:
            return -1


cdef str flaw_of_entry(Value* entry, Value* role, Value* content):
    """Return the error of an entry that is not a message."""
    if entry.kind != OBJECT:
        return f"expected an object, got {describe(entry.kind)}"
    if role.kind != STRING:
        return "role is missing" if role.kind == MISSING else f"role is {describe(role.kind)}"
    if content.kind != STRING:
        return "content is missing" if content.kind == MISSING else f"content is {describe(content.kind)}"
    return f"{'role' if text_of_value(role) is None else 'content'} holds a lone surrogate"


cdef object message_of_entry(Value* entry, Value* role_value, Value* content_value):
    """The ConversationMessage of a scanned entry, or None if none can be made of it."""
    cdef str role, content
    if entry.kind != OBJECT or role_value.kind != STRING or content_value.kind != STRING:
        return None
    role = role_of_value(role_value)
    if role is None:
        return None
    content = text_of_value(content_value)
    if content is None:
        return None
    return make(role, content)


cdef object bad_entry_of(Scan* scan, Fields* fields):
    """Return the error of the first entry that was left out. It is read again here, so that good entries cost nothing."""
    cdef Value entry, role, content
    scan.at = fields.bad_start
    scan_entry(scan, &entry, &role, &content)
    return error_at(scan, f"transcript entry {fields.bad_index}: {flaw_of_entry(&entry, &role, &content)}", &entry)


cdef int read_transcript(Scan* scan, Fields* fields, Message message, History history) except -2:
    """An array of entries into `message.transcript`; -1 if the scan fails."""
    cdef Value entry, role, content
    cdef Py_ssize_t index = 0
    cdef const unsigned char* entries = scan.at + 1
    cdef Py_ssize_t weight = 0, kept_weight, limit = PY_SSIZE_T_MAX
    cdef list messages
    cdef object made
    scan.at = entries
    fields.bad_index = -1
    if history is None:
        messages = []
    else:
        index = history._match(entries, scan.end - entries)
        history._trim()
        messages = history._messages
        weight = history._objects_bytes
        limit = history._text_limit
        if history._bad_index >= 0:
            fields.bad_index = history._bad_index
            fields.bad_start = entries + history._bad_start
        history.place = <Py_ssize_t> (entries - scan.start)
        history.equal = 0
        if index:
            history.equal = history._ends[index - 1]
            scan.at += history._ends[index - 1]
    kept_weight = weight
    skip_blanks(scan)
    if index == 0 and scan.at < scan.end and scan.at[0] == c"]":
        scan.at += 1
    else:
        while True:
            if index:
                if scan.at < scan.end and scan.at[0] == c"]":
                    scan.at += 1
                    break
                if expect(scan, c",", b"expected ',' or ']'") < 0:
                    return -1
                skip_blanks(scan)
            if scan_entry(scan, &entry, &role, &content) < 0:
                return -1
            made = message_of_entry(&entry, &role, &content)
            if made is None and fields.bad_index < 0:
                fields.bad_index = index
                fields.bad_start = entry.start
            weight += entry_bytes(made)
            if weight > limit:
                scan.at = entry.start
                return refuse(scan, b"the transcript takes too much memory")
            if made is not None or history is not None:
                PyList_Append(messages, made)
            if history is not None:
                history._decoded += 1
                history._add_end(index, scan.at - entries if weight <= OBJECTS_MAX else HISTORY_MAX + 1)
                if history._ends[index] <= HISTORY_MAX:
                    kept_weight = weight
            index += 1
            skip_blanks(scan)
    if history is not None:
        messages = PyList_GetSlice(messages, 0, index)
        history._keep(entries, index)
        history._objects_bytes = kept_weight
        history._trim()
        if 0 <= fields.bad_index < history._count:
            history._bad_index = fields.bad_index
            history._bad_start = fields.bad_start - entries
        if fields.bad_index >= 0:
            messages = [made for made in messages if made is not None]
    message.transcript = messages
    return 0


cdef str last_said(list transcript):
    """The text of the last user message, or None."""
    cdef Py_ssize_t index = PyList_GET_SIZE(transcript)
    cdef ConversationMessage message
    while index:
        index -= 1
        message = <ConversationMessage>PyList_GET_ITEM(transcript, index)
        if message.role is ROLE_USER or message.role == ROLE_USER:  # it may have been made of escapes
            return message.content
    return None
