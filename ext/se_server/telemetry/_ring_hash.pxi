# SipHash-1-3 of texts, with a key that is never written anywhere: equal texts are seen to be equal, and no table of likely
# texts tells which they are. Aumasson and Bernstein, 2012: https://www.aumasson.jp/siphash/siphash.pdf

cdef extern from *:
    """
    #define SE_ROTATE(word, bits) (((word) << (bits)) | ((word) >> (64 - (bits))))
    typedef struct { uint64_t v0, v1, v2, v3, tail; uint64_t size; } se_sip;

    static inline void se_sip_round(se_sip* s) {
        s->v0 += s->v1; s->v1 = SE_ROTATE(s->v1, 13); s->v1 ^= s->v0; s->v0 = SE_ROTATE(s->v0, 32);
        s->v2 += s->v3; s->v3 = SE_ROTATE(s->v3, 16); s->v3 ^= s->v2;
        s->v0 += s->v3; s->v3 = SE_ROTATE(s->v3, 21); s->v3 ^= s->v0;
        s->v2 += s->v1; s->v1 = SE_ROTATE(s->v1, 17); s->v1 ^= s->v2; s->v2 = SE_ROTATE(s->v2, 32);
    }
    static inline void se_sip_word(se_sip* s, uint64_t word) {
        s->v3 ^= word; se_sip_round(s); s->v0 ^= word;
    }
    static void se_sip_start(se_sip* s, const uint64_t* key) {
        s->v0 = key[0] ^ 0x736f6d6570736575ULL; s->v1 = key[1] ^ 0x646f72616e646f6dULL;
        s->v2 = key[0] ^ 0x6c7967656e657261ULL; s->v3 = key[1] ^ 0x7465646279746573ULL;
        s->tail = 0; s->size = 0;
    }
    /* Fewer than eight bytes; those that are read twice are the same in both places. */
    static inline uint64_t se_sip_few(const unsigned char* data, Py_ssize_t size) {
        uint32_t first, last;
        if (size >= 4) {
            memcpy(&first, data, 4); memcpy(&last, data + size - 4, 4);
            return first | (uint64_t)last << (8 * (size - 4));
        }
        if (size == 0) return 0;
        return data[0] | (uint64_t)data[size >> 1] << (8 * (size >> 1)) | (uint64_t)data[size - 1] << (8 * (size - 1));
    }
    /* The bytes may come in pieces of any size: each word is shifted behind the bytes that fill no word yet. */
    static inline void se_sip_add(se_sip* s, const unsigned char* data, Py_ssize_t size) {
        const unsigned shift = 8 * (s->size & 7);
        uint64_t word;
        s->size += size;
        for (; size >= 8; size -= 8, data += 8) {
            memcpy(&word, data, 8);
            se_sip_word(s, s->tail | word << shift);
            if (shift) s->tail = word >> (64 - shift);
        }
        word = se_sip_few(data, size);
        s->tail |= word << shift;
        if (shift + 8 * size >= 64) { se_sip_word(s, s->tail); s->tail = word >> (64 - shift); }
    }
    static uint64_t se_sip_end(se_sip* s) {
        se_sip_word(s, s->tail | (s->size << 56));
        s->v2 ^= 0xff; se_sip_round(s); se_sip_round(s); se_sip_round(s);
        return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    }
    """
    ctypedef struct se_sip:
        pass
    void se_sip_start(se_sip* s, const uint64_t* key) nogil
    void se_sip_add(se_sip* s, const unsigned char* data, Py_ssize_t size) nogil
    uint64_t se_sip_end(se_sip* s) nogil

cdef const char* HEXADECIMAL = "0123456789abcdef"


cdef inline int add_text(se_sip* state, str text) except -1:
    cdef bytes wide
    if PyUnicode_IS_ASCII(text):
        se_sip_add(state, <const unsigned char*> PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
    else:
        wide = text.encode("utf-8", "surrogatepass")
        se_sip_add(state, wide, len(wide))
    return 0


cdef uint64_t hash_of(const uint64_t* key, str text) except? 0:
    """Return the hash of the UTF-8 of a text; None is as empty."""
    cdef se_sip state
    se_sip_start(&state, key)
    if text is not None:
        add_text(&state, text)
    return se_sip_end(&state)


cdef uint64_t hash_of_all(const uint64_t* key, list texts) except? 0:
    """Return the hash of texts as if they were one; None is as empty."""
    cdef se_sip state
    cdef Py_ssize_t place
    se_sip_start(&state, key)
    if texts is not None:
        for place in range(len(texts)):
            add_text(&state, <str> texts[place])
    return se_sip_end(&state)
