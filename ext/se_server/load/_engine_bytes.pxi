# Growing buffers, random numbers, and the frames of a client.

cdef struct Bytes:
    unsigned char* data
    Py_ssize_t size
    Py_ssize_t room

cdef enum:
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA
    FIN = 0x80
    MASKED = 0x80
    HEAD_MAX = 14  # the largest head of a frame, mask included
    KEPT = 16384  # the room that an empty buffer may keep


cdef int reserve(Bytes* buffer, Py_ssize_t more) except -1:
    cdef Py_ssize_t room
    cdef unsigned char* data
    if buffer.room - buffer.size >= more:
        return 0
    room = max(buffer.size + more, buffer.room + (buffer.room >> 1), 256)
    data = <unsigned char*> PyMem_Realloc(buffer.data, room)
    if data == NULL:
        raise MemoryError()
    buffer.data = data
    buffer.room = room
    return 0


cdef inline int add(Bytes* buffer, const void* data, Py_ssize_t size) except -1:
    if buffer.room - buffer.size < size:
        reserve(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef void empty(Bytes* buffer) noexcept:
    """Clear the buffer, and free its memory if it is larger than `KEPT`."""
    buffer.size = 0
    if buffer.room > KEPT:
        release(buffer)


cdef void release(Bytes* buffer) noexcept:
    PyMem_Free(buffer.data)
    buffer.data = NULL
    buffer.size = buffer.room = 0


cdef inline void drop(Bytes* buffer, Py_ssize_t size) noexcept:
    """Remove bytes from the front."""
    buffer.size -= size
    memmove(buffer.data, buffer.data + size, buffer.size)


cdef inline uint64_t draw(uint64_t* state) noexcept nogil:
    """SplitMix64 (Steele, Lea, Flood 2014): return 64 random bits."""
    cdef uint64_t bits
    state[0] += <uint64_t> 0x9E3779B97F4A7C15ULL
    bits = state[0]
    bits = (bits ^ (bits >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9ULL
    bits = (bits ^ (bits >> 27)) * <uint64_t> 0x94D049BB133111EBULL
    return bits ^ (bits >> 31)


cdef inline double draw_share(uint64_t* state) noexcept nogil:
    """Return a number from 0 to just below 1."""
    return (draw(state) >> 11) * 1.1102230246251565e-16  # 2 ** -53


cdef int add_frame(Bytes* out, int opcode, const unsigned char* payload, Py_ssize_t size, uint64_t random) except -1:
    """Append a whole frame, masked (RFC 6455, 5.2 and 5.3)."""
    cdef unsigned char* at
    cdef unsigned char mask[8]
    cdef uint64_t mask_word, word
    cdef Py_ssize_t place
    cdef int shift
    reserve(out, HEAD_MAX + size)
    at = out.data + out.size
    at[0] = FIN | opcode
    if size < 126:
        at[1] = MASKED | size
        at += 2
    elif size < 65536:
        at[1] = MASKED | 126
        at[2] = size >> 8
        at[3] = size & 0xFF
        at += 4
    else:
        at[1] = MASKED | 127
        for shift in range(8):
            at[2 + shift] = (size >> (56 - 8 * shift)) & 0xFF
        at += 10
    memcpy(mask, &random, 4)
    memcpy(mask + 4, &random, 4)
    memcpy(&mask_word, mask, 8)
    memcpy(at, mask, 4)
    at += 4
    for place in range(0, size - 7, 8):
        memcpy(&word, payload + place, 8)
        word ^= mask_word
        memcpy(at + place, &word, 8)
    for place in range(size & ~7, size):
        at[place] = payload[place] ^ mask[place & 7]
    out.size = at + size - out.data
    return 0


# --- frames of the server -------------------------------------------------------------------------------------------

cdef enum:
    MAX_MESSAGE = 1 << 24

cdef struct Frame:
    int opcode
    bint is_last
    const unsigned char* payload
    Py_ssize_t size
    const char* fault


cdef Py_ssize_t read_frame(const unsigned char* at, Py_ssize_t size, Frame* frame) noexcept nogil:
    """Return the size of the frame at `at`; 0 if it is incomplete, -1 with a `fault` if it breaks RFC 6455, 5.2."""
    cdef Py_ssize_t head = 2
    cdef uint64_t length
    cdef int shift
    if size < 2:
        return 0
    frame.opcode = at[0] & 0x0F
    frame.is_last = at[0] >> 7
    length = at[1] & 0x7F
    if at[0] & 0x70:
        frame.fault = b"a frame with a reserved bit set"
        return -1
    if frame.opcode > PONG or BINARY < frame.opcode < CLOSE:
        frame.fault = b"a frame of an unknown opcode"
        return -1
    if at[1] & 0x80:
        frame.fault = b"a masked frame"
        return -1
    if frame.opcode >= CLOSE and (length > 125 or not frame.is_last):
        frame.fault = b"a control frame that is too long or in fragments"
        return -1
    if length == 126:
        if size < 4:
            return 0
        head = 4
        length = (at[2] << 8) | at[3]
        if length < 126:
            frame.fault = b"a frame whose length is not minimal"
            return -1
    elif length == 127:
        if size < 10:
            return 0
        head = 10
        length = 0
        for shift in range(8):
            length = (length << 8) | at[2 + shift]
        if length < 65536:
            frame.fault = b"a frame whose length is not minimal"
            return -1
    if length > MAX_MESSAGE:
        frame.fault = b"a frame of over 16 MiB"
        return -1
    if <uint64_t> (size - head) < length:
        return 0
    frame.payload = at + head
    frame.size = length
    return head + frame.size
