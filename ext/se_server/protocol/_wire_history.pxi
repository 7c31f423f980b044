# History: the entries of the last transcript as bytes, where each ends, and what was made of each.
#
# Its one invariant makes every use sound: the bytes up to `_ends[n - 1]`, read as the inside of an array, give the first
# n of `_messages`. So it may be cut at any entry, at any time, and equal bytes may be skipped up to any entry's end.

cdef enum:
    # As long as a message may be by default. Entries that reach beyond it are read again each turn.
    HISTORY_MAX = 1024 * 1024
    # The same of the memory of their messages: a text with one emoji takes four bytes a character.
    OBJECTS_MAX = 1024 * 1024
    ENTRY_BYTES = 24                           # of lists and ends, also for an entry that is no message
    MESSAGE_BYTES = 48
    TEXT_BYTES = 72                            # besides its characters
    COMPARED = 256                             # bytes at once, where two transcripts are known to differ


cdef Py_ssize_t equal_bytes(const unsigned char* one, const unsigned char* other, Py_ssize_t size) noexcept nogil:
    """Return the number of equal bytes at the start."""
    cdef unsigned long long differing
    cdef Py_ssize_t index = 0
    if memcmp(one, other, size) == 0:
        return size
    while size - index >= COMPARED and memcmp(one + index, other + index, COMPARED) == 0:
        index += COMPARED
    while size - index >= WORD:
        differing = word_at(one + index) ^ word_at(other + index)
        if differing:
            return index + (trailing_zeros(differing) >> 3)
        index += WORD
    while index < size and one[index] == other[index]:
        index += 1
    return index


cdef inline Py_ssize_t text_bytes(str text) noexcept:
    return TEXT_BYTES + PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text)


cdef inline Py_ssize_t entry_bytes(object made) noexcept:
    """Return the memory of an entry, made or left out; roles are shared, or short."""
    if made is None:
        return ENTRY_BYTES
    return ENTRY_BYTES + MESSAGE_BYTES + text_bytes((<ConversationMessage>made).content) + (
        0 if (<ConversationMessage>made).role is ROLE_USER or (<ConversationMessage>made).role is ROLE_AGENT
        else text_bytes((<ConversationMessage>made).role)
    )


cdef class History:
    """The messages of a session's last transcript, kept so that an unchanged beginning is not built again."""

    def __cinit__(self, Py_ssize_t max_message_bytes=0):
        self._text_limit = max_message_bytes + max_message_bytes // 2 if max_message_bytes else PY_SSIZE_T_MAX
        self._messages = []
        self._bad_index = -1

    def __dealloc__(self):
        PyMem_Free(self._raw)
        PyMem_Free(self._ends)

    @property
    def size_bytes(self):
        """Bytes of memory kept: the raw entries, their ends, and the messages made of them."""
        cdef Py_ssize_t total = self._raw_capacity + self._ends_capacity * <Py_ssize_t>sizeof(unsigned int)
        total += sys.getsizeof(self) + sys.getsizeof(self._messages)
        for message in self._messages:
            if message is not None:
                total += sys.getsizeof(message) + sys.getsizeof(message.content)
        return total

    def take_decoded(self):
        """Return the number of entries that were decoded since the last call."""
        decoded, self._decoded = self._decoded, 0
        return decoded

    cdef Py_ssize_t _match(self, const unsigned char* entries, Py_ssize_t size) noexcept:
        """Keep the entries that `entries` starts with, forget the others, and give their number."""
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = self._count
        cdef Py_ssize_t middle, equal
        if high == 0:
            return 0
        equal = equal_bytes(self._raw, entries, min(size, <Py_ssize_t>self._ends[high - 1]))
        if equal == <Py_ssize_t>self._ends[high - 1]:
            low = high
        while low < high:
            middle = (low + high) // 2
            if <Py_ssize_t>self._ends[middle] <= equal:
                low = middle + 1
            else:
                high = middle
        # A number has no end of its own: in the new bytes it may go on.
        if low and is_digit(self._raw[self._ends[low - 1] - 1]):
            low -= 1
        for middle in range(low, self._count):
            self._objects_bytes -= entry_bytes(<object>PyList_GET_ITEM(self._messages, middle))
        self._count = low
        if self._bad_index >= low:
            self._bad_index = -1
        return low

    cdef int _add_end(self, Py_ssize_t index, Py_ssize_t end) except -1:
        """Note where entry `index` ends; it counts once `_keep` was called."""
        if index == self._ends_capacity:
            self._resize_ends(index + (index >> 1) + 8)
        self._ends[index] = end if end <= HISTORY_MAX else HISTORY_MAX + 1
        return 0

    cdef int _resize_ends(self, Py_ssize_t capacity) except -1:
        cdef unsigned int* ends = <unsigned int*>PyMem_Realloc(self._ends, capacity * sizeof(unsigned int))
        if ends == NULL:
            raise MemoryError()
        self._ends = ends
        self._ends_capacity = capacity
        return 0

    cdef int _keep(self, const unsigned char* entries, Py_ssize_t count) except -1:
        """Take over the entries behind the matched ones, whose messages and ends are in place."""
        cdef Py_ssize_t old = self._ends[self._count - 1] if self._count else 0
        cdef Py_ssize_t size, capacity
        cdef unsigned char* raw
        while count and self._ends[count - 1] > HISTORY_MAX:
            count -= 1
        size = self._ends[count - 1] if count else 0
        if size > self._raw_capacity or self._raw_capacity > 2 * size + 256:
            # An eighth to spare: a call grows by two messages a turn, and most of a session's memory is here.
            capacity = size + size // 8 + 64
            raw = <unsigned char*>PyMem_Realloc(self._raw, capacity)
            if raw == NULL:
                raise MemoryError()
            self._raw = raw
            self._raw_capacity = capacity
        if size > old:
            memcpy(self._raw + old, entries + old, size - old)
        if self._ends_capacity > 2 * count + 16:
            self._resize_ends(count + 8)
        self._count = count
        return 0

    cdef int _trim(self) except -1:
        """Forget messages that do not count."""
        if PyList_GET_SIZE(self._messages) > self._count:
            PyList_SetSlice(self._messages, self._count, PY_SSIZE_T_MAX, NULL)
        return 0
