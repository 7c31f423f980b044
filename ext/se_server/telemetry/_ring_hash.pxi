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
    /* The bytes may come in pieces of any size. */
    static void se_sip_add(se_sip* s, const unsigned char* data, Py_ssize_t size) {
        uint64_t word;
        while (size && (s->size & 7)) {
            s->tail |= (uint64_t)*data++ << (8 * (s->size++ & 7)); size--;
            if ((s->size & 7) == 0) { se_sip_word(s, s->tail); s->tail = 0; }
        }
        for (; size >= 8; size -= 8, data += 8, s->size += 8) {
            memcpy(&word, data, 8); se_sip_word(s, word);
        }
        while (size--) s->tail |= (uint64_t)*data++ << (8 * (s->size++ & 7));
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


cdef uint64_t hash_of(const uint64_t* key, texts) except? 0:
    """Return the hash of the UTF-8 of texts, joined."""
    cdef se_sip state
    cdef bytes wide
    se_sip_start(&state, key)
    for text in texts:
        if PyUnicode_IS_ASCII(text):
            se_sip_add(&state, <const unsigned char*> PyUnicode_DATA(text), len(<str> text))
        else:
            wide = (<str> text).encode("utf-8", "surrogatepass")
            se_sip_add(&state, wide, len(wide))
    return se_sip_end(&state)
