# Parts of the engine exposed for tests that compare them with other parsers.

def build_frame(int opcode, bytes payload, uint64_t random):
    cdef Bytes out
    memset(&out, 0, sizeof(Bytes))
    try:
        add_frame(&out, opcode, <const unsigned char*> <const char*> payload, len(payload), random)
        return (<const char*> out.data)[: out.size]
    finally:
        release(&out)


def read_frames(bytes data):
    cdef Frame frame
    cdef const unsigned char* start = <const unsigned char*> <const char*> data
    cdef Py_ssize_t used = 0, step = 1, size = len(data)
    found = []
    while True:
        step = read_frame(start + used, size - used, &frame)
        if step < 0:
            raise ValueError(frame.fault.decode())
        if step == 0:
            return found, used
        used += step
        found.append((frame.opcode, frame.is_last, (<const char*> frame.payload)[: frame.size]))


def read_messages(list messages, bytes event_id):
    cdef Shape shapes[SHAPES]
    cdef Heard heard
    cdef bytes data
    memset(shapes, 0, sizeof(shapes))
    found = []
    for data in messages:
        if read_message(
            shapes,
            <const unsigned char*> <const char*> data,
            len(data),
            <const unsigned char*> <const char*> event_id,
            len(event_id),
            &heard,
        ) < 0:
            found.append(heard.fault.decode())
        elif not heard.is_response:
            found.append(None)
        else:
            content = (<const char*> heard.content.start)[1 : heard.content.end - heard.content.start - 1]
            found.append((content, heard.has_our_id, heard.is_final))
    return found


def cut_text(bytes text, Py_ssize_t most):
    return text[: cut_before(<const unsigned char*> <const char*> text, len(text), most)]
