# Writing: compact JSON, and whole WebSocket frames of it.
#
# A text is measured first: then the frame's header is known before the payload is written, which goes to its place at
# once, and a huge text reserves what it needs and no more.

cdef enum:
    FRAME_HEADER_MAX = 10                      # of a server: no mask (RFC 6455, 5.2)
    BUFFER_START = 1024
    BUFFER_KEPT = 256 * 1024                   # the most memory that a reset buffer keeps

# Macros: the sizes are then known to the compiler, which turns each copy into a few moves.
cdef extern from *:
    """
    #define SE_RESPONSE_START "{\\"type\\":\\"agent_response\\",\\"content\\":\\""
    #define SE_RESPONSE_MIDDLE "\\",\\"event_id\\":"
    #define SE_RESPONSE_GOES_ON ",\\"is_final\\":false}"
    #define SE_RESPONSE_ENDS ",\\"is_final\\":true}"
    #define SE_PONG "{\\"type\\":\\"pong\\"}"
    """
    const char[] RESPONSE_START "SE_RESPONSE_START"
    const char[] RESPONSE_MIDDLE "SE_RESPONSE_MIDDLE"
    const char[] RESPONSE_GOES_ON "SE_RESPONSE_GOES_ON"
    const char[] RESPONSE_ENDS "SE_RESPONSE_ENDS"
    const char[] PONG "SE_PONG"
    const Py_ssize_t RESPONSE_START_SIZE "(Py_ssize_t)(sizeof(SE_RESPONSE_START) - 1)"
    const Py_ssize_t RESPONSE_MIDDLE_SIZE "(Py_ssize_t)(sizeof(SE_RESPONSE_MIDDLE) - 1)"
    const Py_ssize_t RESPONSE_GOES_ON_SIZE "(Py_ssize_t)(sizeof(SE_RESPONSE_GOES_ON) - 1)"
    const Py_ssize_t RESPONSE_ENDS_SIZE "(Py_ssize_t)(sizeof(SE_RESPONSE_ENDS) - 1)"
    const Py_ssize_t PONG_SIZE "(Py_ssize_t)(sizeof(SE_PONG) - 1)"

cdef const char* HEX = b"0123456789abcdef"

cdef bytes NULL_JSON = b"null"
cdef bytes PONG_BYTES = <bytes>(<const char*>PONG)[:PONG_SIZE]


cdef inline bint is_plain(const unsigned char* text, Py_ssize_t size) noexcept nogil:
    """Whether ASCII `text` stands in JSON as it is."""
    cdef unsigned long long word
    cdef Py_ssize_t index = 0
    while size - index >= WORD:
        memcpy(&word, text + index, WORD)
        if special_bytes(word):
            return False
        index += WORD
    if size >= WORD:  # the last ones, some of them once more
        memcpy(&word, text + size - WORD, WORD)
        return special_bytes(word) == 0
    while index < size:
        if text[index] < 0x20 or text[index] == c'"' or text[index] == c"\\":
            return False
        index += 1
    return True


cdef inline unsigned char short_escape(unsigned int code) noexcept nogil:
    """The letter of a two-character escape, or 0."""
    if code == c'"' or code == c"\\":
        return code
    if code == c"\n":
        return c"n"
    if code == c"\r":
        return c"r"
    if code == c"\t":
        return c"t"
    if code == 0x08:
        return c"b"
    if code == 0x0C:
        return c"f"
    return 0


cdef inline unsigned int character(int kind, const void* data, Py_ssize_t size, Py_ssize_t* index) noexcept nogil:
    """The character at `index`, which moves behind it. Halves that meet are joined, others are U+FFFD."""
    cdef unsigned int code = PyUnicode_READ(kind, data, index[0])
    cdef unsigned int low
    index[0] += 1
    if 0xD800 <= code < 0xE000:
        if code < 0xDC00 and index[0] < size:
            low = PyUnicode_READ(kind, data, index[0])
            if 0xDC00 <= low < 0xE000:
                index[0] += 1
                return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return 0xFFFD
    return code


cdef Py_ssize_t json_size(int kind, const void* data, Py_ssize_t size) noexcept nogil:
    """Bytes that a text takes inside the quotes of a JSON string."""
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t index = 0
    cdef unsigned int code
    while index < size:
        code = character(kind, data, size, &index)
        if code < 0x80:
            if code >= 0x20 and code != c'"' and code != c"\\":
                total += 1
            else:
                total += 2 if short_escape(code) else 6
        else:
            total += 2 if code < 0x800 else 3 if code < 0x10000 else 4
    return total


cdef unsigned char* put_json(unsigned char* out, int kind, const void* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t index = 0
    cdef unsigned int code
    cdef unsigned char letter
    while index < size:
        code = character(kind, data, size, &index)
        if code >= 0x80:
            out = put_character(out, code)
        elif code >= 0x20 and code != c'"' and code != c"\\":
            out[0] = code
            out += 1
        else:
            letter = short_escape(code)
            out[0] = c"\\"
            if letter:
                out[1] = letter
                out += 2
            else:
                memcpy(out + 1, b"u00", 3)
                out[4] = HEX[code >> 4]
                out[5] = HEX[code & 0xF]
                out += 6
    return out


cdef struct Response:
    int kind
    bint plain
    bint is_final
    const void* text
    Py_ssize_t length                          # in characters
    Py_ssize_t text_size                       # in bytes, as JSON
    const char* event_id
    Py_ssize_t event_id_size
    Py_ssize_t size                            # of the whole message


cdef int measure(Response* response, str content, bytes event_id_json, bint is_final) except -1:
    if content is None or event_id_json is None:
        raise TypeError("content must be str and event_id_json bytes, not None")
    response.kind = PyUnicode_KIND(content)
    response.text = PyUnicode_DATA(content)
    response.length = PyUnicode_GET_LENGTH(content)
    response.is_final = is_final
    response.event_id = PyBytes_AS_STRING(event_id_json)
    response.event_id_size = PyBytes_GET_SIZE(event_id_json)
    response.plain = (PyUnicode_IS_ASCII(content)
                      and is_plain(<const unsigned char*>response.text, response.length))
    # At most six bytes a character: no str in memory is long enough for an overflow to matter on 64 bits; on 32 it is.
    if response.length > (PY_SSIZE_T_MAX - 4096 - response.event_id_size) // 6:
        raise MemoryError("the text is too long")
    if response.plain:
        response.text_size = response.length
    else:
        response.text_size = json_size(response.kind, response.text, response.length)
    response.size = (RESPONSE_START_SIZE + response.text_size + RESPONSE_MIDDLE_SIZE + response.event_id_size
                     + (RESPONSE_ENDS_SIZE if is_final else RESPONSE_GOES_ON_SIZE))
    return 0


cdef inline unsigned char* put_bytes(unsigned char* out, const void* data, Py_ssize_t size) noexcept nogil:
    memcpy(out, data, size)
    return out + size


cdef unsigned char* put_response(unsigned char* out, Response* response) noexcept nogil:
    out = put_bytes(out, RESPONSE_START, RESPONSE_START_SIZE)
    if response.plain:
        out = put_bytes(out, response.text, response.text_size)
    else:
        out = put_json(out, response.kind, response.text, response.length)
    out = put_bytes(out, RESPONSE_MIDDLE, RESPONSE_MIDDLE_SIZE)
    out = put_bytes(out, response.event_id, response.event_id_size)
    if response.is_final:
        return put_bytes(out, RESPONSE_ENDS, RESPONSE_ENDS_SIZE)
    return put_bytes(out, RESPONSE_GOES_ON, RESPONSE_GOES_ON_SIZE)


cdef unsigned char* put_text_frame_header(unsigned char* out, unsigned long long size) noexcept nogil:
    """FIN, opcode 1, no mask, the length in its shortest form (RFC 6455, 5.2)."""
    cdef int shift
    out[0] = 0x81
    if size < 126:
        out[1] = size
        return out + 2
    if size < 65536:
        out[1] = 126
        out[2] = size >> 8
        out[3] = size & 0xFF
        return out + 4
    out[1] = 127
    for shift in range(8):
        out[2 + shift] = (size >> (56 - 8 * shift)) & 0xFF
    return out + 10


cdef bytes agent_response_json(str content, bytes event_id_json, bint is_final):
    cdef Response response
    measure(&response, content, event_id_json, is_final)
    cdef bytes message = PyBytes_FromStringAndSize(NULL, response.size)
    put_response(<unsigned char*>PyBytes_AS_STRING(message), &response)
    return message


cdef bytes event_id_json(object event_id):
    if event_id is None:
        return NULL_JSON
    if not isinstance(event_id, int) or isinstance(event_id, bool):
        raise TypeError(f"event_id must be int or None, not {type(event_id).__name__}")
    return b"%d" % event_id


cdef class Buffer:
    """Whole server WebSocket text frames, one after another, in memory that is reused."""

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int reserve(self, Py_ssize_t extra) except -1:
        if extra <= self.capacity - self.size:
            return 0
        if extra < 0 or extra > PY_SSIZE_T_MAX // 2 - self.size:
            raise MemoryError("the buffer would be too large")
        cdef Py_ssize_t capacity = max(self.size + extra, 2 * self.capacity, <Py_ssize_t>BUFFER_START)
        cdef char* data = <char*>PyMem_Realloc(self.data, capacity)
        if data == NULL:
            raise MemoryError()
        self.data = data
        self.capacity = capacity
        return 0

    cdef int put_agent_response_frame(self, str content, bytes event_id_json, bint is_final) except -1:
        cdef Response response
        cdef unsigned char* out
        measure(&response, content, event_id_json, is_final)
        self.reserve(FRAME_HEADER_MAX + response.size)
        out = put_text_frame_header(<unsigned char*>self.data + self.size, response.size)
        self.size = <char*>put_response(out, &response) - self.data
        return 0

    cdef int put_pong_frame(self) except -1:
        self.reserve(FRAME_HEADER_MAX + PONG_SIZE)
        cdef unsigned char* out = put_text_frame_header(<unsigned char*>self.data + self.size, PONG_SIZE)
        self.size = <char*>put_bytes(out, PONG, PONG_SIZE) - self.data
        return 0

    cdef bytes take(self):
        cdef bytes frames = PyBytes_FromStringAndSize(self.data, self.size)
        self.reset()
        return frames

    cdef void reset(self) noexcept:
        self.size = 0
        if self.capacity > BUFFER_KEPT:
            PyMem_Free(self.data)
            self.data = NULL
            self.capacity = 0

    def put_agent_response(self, str content not None, event_id, bint is_final):
        """Append an `agent_response`."""
        self.put_agent_response_frame(content, event_id_json(event_id), is_final)

    def put_pong(self):
        """Append a `pong`."""
        self.put_pong_frame()

    def take_bytes(self):
        """Return the frames so far and empty the buffer."""
        return self.take()

    def __len__(self):
        return self.size

    def __sizeof__(self):
        return object.__sizeof__(self) + self.capacity


def encode_agent_response(str content not None, event_id, bint is_final):
    """Return an `agent_response` as compact JSON in UTF-8; lone surrogates become U+FFFD."""
    return agent_response_json(content, event_id_json(event_id), is_final)


def encode_pong():
    """Return a `pong` as compact JSON."""
    return PONG_BYTES
