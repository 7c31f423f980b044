# UTF-8, Unicode table 3-7 (well-formed byte sequences), as a state machine: a text may come in pieces.
#
# A state says what may follow: after E0, ED, F0 and F4 the second byte is restricted (overlong forms, surrogates, above
# U+10FFFF); after any other leading byte only the number of continuation bytes still due matters.

cdef enum:
    ONE_DUE = 2
    TWO_DUE = 3
    THREE_DUE = 4
    AFTER_E0 = 5
    AFTER_ED = 6
    AFTER_F0 = 7
    AFTER_F4 = 8

cdef enum:
    WORD = 8                                   # bytes looked at together

cdef extern from *:
    """
    #define SE_ONES 0x0101010101010101ULL
    #define SE_HIGHS 0x8080808080808080ULL
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define SE_LITTLE_ENDIAN(word) __builtin_bswap64(word)
    #else
    #define SE_LITTLE_ENDIAN(word) (word)
    #endif
    """
    const unsigned long long ONES "SE_ONES"    # times a byte: that byte, eight times
    const unsigned long long HIGHS "SE_HIGHS"  # the top bit of each byte
    unsigned long long little_endian "SE_LITTLE_ENDIAN"(unsigned long long word) noexcept nogil
    int trailing_zeros "__builtin_ctzll"(unsigned long long word) noexcept nogil


cdef inline unsigned long long word_at(const unsigned char* data) noexcept nogil:
    """Eight bytes, the first one the lowest."""
    cdef unsigned long long word
    memcpy(&word, data, WORD)
    return little_endian(word)


cdef inline unsigned int utf8_step(unsigned int state, unsigned char byte) noexcept nogil:
    """One byte on from `state`, which is not UTF8_REJECT."""
    cdef unsigned char low = 0x80
    cdef unsigned char high = 0xBF
    if state == UTF8_ACCEPT:
        if byte < 0x80:
            return UTF8_ACCEPT
        if byte < 0xC2 or byte > 0xF4:
            return UTF8_REJECT
        if byte < 0xE0:
            return ONE_DUE
        if byte < 0xF0:
            return AFTER_E0 if byte == 0xE0 else AFTER_ED if byte == 0xED else TWO_DUE
        return AFTER_F0 if byte == 0xF0 else AFTER_F4 if byte == 0xF4 else THREE_DUE
    if state == AFTER_E0:
        low = 0xA0
    elif state == AFTER_ED:
        high = 0x9F
    elif state == AFTER_F0:
        low = 0x90
    elif state == AFTER_F4:
        high = 0x8F
    if byte < low or byte > high:
        return UTF8_REJECT
    if state == ONE_DUE:
        return UTF8_ACCEPT
    return TWO_DUE if state == THREE_DUE or state >= AFTER_F0 else ONE_DUE


cdef unsigned int utf8_check(unsigned int state, const unsigned char* data, Py_ssize_t size) noexcept nogil:
    cdef const unsigned char* end = data + size
    cdef unsigned long long word, words
    cdef int i
    if state > AFTER_F4:
        return UTF8_REJECT
    while data < end and state != UTF8_REJECT:
        if state == UTF8_ACCEPT:
            while end - data >= 8 * WORD:
                words = 0
                for i in range(8):
                    memcpy(&word, data + i * WORD, WORD)
                    words |= word
                if words & HIGHS:
                    break
                data += 8 * WORD
            while end - data >= WORD:
                word = word_at(data) & HIGHS
                if word:
                    data += trailing_zeros(word) >> 3
                    break
                data += WORD
            # Whole sequences of two and three bytes are nearly all there is besides ASCII: no step by step for them.
            while end - data >= 3 and data[0] >= 0x80:
                if 0xC2 <= data[0] < 0xE0 and data[1] & 0xC0 == 0x80:
                    data += 2
                elif 0xE1 <= data[0] < 0xF0 and data[0] != 0xED and data[1] & 0xC0 == 0x80 and data[2] & 0xC0 == 0x80:
                    data += 3
                else:
                    break
            if data < end and (data[0] >= 0x80 or end - data < WORD):
                state = utf8_step(state, data[0])
                data += 1
        else:
            state = utf8_step(state, data[0])
            data += 1
    return state


cdef Py_ssize_t utf8_first_bad(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Return the offset of the first ill-formed sequence, or -1."""
    cdef unsigned int state = UTF8_ACCEPT
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t index
    for index in range(size):
        if state == UTF8_ACCEPT:
            start = index
        state = utf8_step(state, data[index])
        if state == UTF8_REJECT:
            return start
    return -1 if state == UTF8_ACCEPT else start
