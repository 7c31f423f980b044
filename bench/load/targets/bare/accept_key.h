/* Sec-WebSocket-Accept (RFC 6455, 4.2.2): the SHA-1 of the key and a GUID, in base64. */
#include <stdint.h>
#include <string.h>

static uint32_t rotated(uint32_t value, int by)
{
    return value << by | value >> (32 - by);
}

/* SHA-1 (FIPS 180-4) of a text of at most 119 bytes, which fits two blocks with its padding. */
static void sha1(const char *text, size_t size, unsigned char digest[20])
{
    unsigned char data[128] = {0};
    size_t total = size + 9 <= 64 ? 64 : 128;
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    memcpy(data, text, size);
    data[size] = 0x80;
    data[total - 2] = size * 8 >> 8;
    data[total - 1] = size * 8;
    for (unsigned char *block = data; block < data + total; block += 64) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[i * 4] << 24 | block[i * 4 + 1] << 16 | block[i * 4 + 2] << 8 | block[i * 4 + 3];
        for (int i = 16; i < 80; i++)
            w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5a827999
                : i < 40        ? (b ^ c ^ d) + 0x6ed9eba1
                : i < 60        ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = rotated(a, 5) + f + e + w[i];
            e = d, d = c, c = rotated(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        digest[i] = h[i / 4] >> (24 - i % 4 * 8);
}

/* Write the 28 letters for a key of at most 64 bytes, and a zero. */
static void accept_key(const char *key, size_t size, char accept[29])
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[64 + sizeof GUID];
    unsigned char digest[21] = {0};
    memcpy(text, key, size);
    memcpy(text + size, GUID, sizeof GUID - 1);
    sha1(text, size + sizeof GUID - 1, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t three = digest[i * 3] << 16 | digest[i * 3 + 1] << 8 | digest[i * 3 + 2];
        for (int k = 0; k < 4; k++)
            accept[i * 4 + k] = LETTERS[three >> (18 - k * 6) & 63];
    }
    accept[27] = '='; /* 20 bytes are 27 letters */
    accept[28] = 0;
}
