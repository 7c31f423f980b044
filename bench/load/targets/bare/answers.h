/* The benchmark's questions, read from the end of a transcript, and their canned answers: ready-made frames, patched. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "words.h" /* WORDS, their number MAX_CHUNKS, and MAX_WORD, their longest: written from handler.py */

enum { MAX_TAG = 64, MAX_DIGITS = 20, TEXT = 0x81 }; /* TEXT with FIN set and no reserved bit */

static const char BEFORE[] = "{\"type\":\"agent_response\",\"content\":\"";
static const char MIDDLE[] = "\",\"event_id\":";
static const char AFTER[] = ",\"is_final\":false}";
static const char FINAL[] = ",\"is_final\":true}";
enum { REST_OF_FRAME = 4 + sizeof BEFORE + sizeof MIDDLE + MAX_DIGITS + sizeof AFTER };

/* "CHUNKS TAG trickle?", and the digits of the event id; pointers into the message. */
struct question {
    int chunks, trickles;
    const char *tag, *id;
    size_t tag_size, digits;
};

/* Whole frames, one after another, valid until the next answer is made. */
struct answer {
    const unsigned char *bytes;
    size_t size;
};

/* ---------------------------------------------------------------- questions */

/* Return the text after the last of these keys and its blanks, or NULL. A key inside a text has escaped quotes. */
static inline const char *after_last(const char *key, const char *text, const char *end)
{
    size_t size = strlen(key);
    for (const char *at = end - size; at >= text; at--)
        if (*at == '"' && memcmp(at, key, size) == 0) {
            for (at += size; at < end && *at == ' ';)
                at++;
            return at;
        }
    return NULL;
}

static inline int is_digit(const char *at, const char *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

/* Return 1 for a question, 0 for another message, -1 for a transcript without a question of the benchmark. */
static inline int read_question(const char *text, size_t size, struct question *q)
{
    const char *end = text + size, *at;
    if ((q->id = after_last("\"event_id\":", text, end)) == NULL)
        return 0;
    for (q->digits = 0; q->digits < MAX_DIGITS && is_digit(q->id + q->digits, end);)
        q->digits++;
    if ((at = after_last("\"content\":", text, end)) == NULL)
        return -1;
    q->chunks = 0;
    for (at++; is_digit(at, end) && q->chunks <= MAX_CHUNKS; at++)
        q->chunks = q->chunks * 10 + *at - '0';
    q->tag = at + 1;
    for (q->tag_size = 0; q->tag + q->tag_size < end && q->tag[q->tag_size] != ' ' && q->tag[q->tag_size] != '"';)
        q->tag_size++;
    at = q->tag + q->tag_size;
    q->trickles = end - at > 8 && memcmp(at, " trickle", 8) == 0;
    return q->digits && q->chunks >= 1 && q->chunks <= MAX_CHUNKS && q->tag_size <= MAX_TAG ? 1 : -1;
}

/* ---------------------------------------------------------------- answers */

static inline unsigned char *put(unsigned char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

/* Write a frame without the digits of its id, and return its end; `*id` is their place. */
static inline unsigned char *put_frame(
    unsigned char *to, const char *text, size_t size, size_t digits, const char *end, unsigned char **id)
{
    size_t payload = sizeof BEFORE - 1 + size + sizeof MIDDLE - 1 + digits + strlen(end);
    *to++ = TEXT;
    if (payload < 126) {
        *to++ = payload;
    } else {
        *to++ = 126;
        *to++ = payload >> 8;
        *to++ = payload;
    }
    to = put(to, BEFORE, sizeof BEFORE - 1);
    to = put(to, text, size);
    *id = to = put(to, MIDDLE, sizeof MIDDLE - 1);
    return put(to + digits, end, strlen(end));
}

/* The bytes before the payload of the frame that starts here, and those of the whole frame. */
static inline size_t head_size(const unsigned char *frame)
{
    return frame[1] < 126 ? 2 : 4;
}

static inline size_t frame_size(const unsigned char *frame)
{
    return frame[1] < 126 ? 2 + frame[1] : 4 + (frame[2] << 8 | frame[3]);
}

/* Return the frames that answer a question. All but the first are made once per number of chunks and digits. */
static inline struct answer answer_to(const struct question *q)
{
    enum { FIRST = REST_OF_FRAME + MAX_TAG, OTHER = REST_OF_FRAME + MAX_WORD };
    static struct {
        unsigned char *bytes, *end, *ids[MAX_CHUNKS];
    } all[MAX_CHUNKS + 1][MAX_DIGITS + 1], *canned;

    canned = &all[q->chunks][q->digits];
    if (canned->bytes == NULL) {
        unsigned char *memory = malloc(FIRST + q->chunks * OTHER);
        if (memory == NULL)
            abort();
        canned->bytes = canned->end = memory + FIRST;
        for (int chunk = 1; chunk <= q->chunks; chunk++) {
            const char *word = chunk < q->chunks ? WORDS[chunk] : "", *end = chunk < q->chunks ? AFTER : FINAL;
            canned->end = put_frame(canned->end, word, strlen(word), q->digits, end, &canned->ids[chunk - 1]);
        }
    }
    for (int frame = 0; frame < q->chunks; frame++)
        memcpy(canned->ids[frame], q->id, q->digits);

    unsigned char first[FIRST], *id;
    size_t size = put_frame(first, q->tag, q->tag_size, q->digits, AFTER, &id) - first;
    memcpy(id, q->id, q->digits);
    memcpy(canned->bytes - size, first, size);
    return (struct answer){canned->bytes - size, canned->end - canned->bytes + size};
}
