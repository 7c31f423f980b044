/* The limit of the machine: one thread, epoll, and canned answers to the benchmark's questions.
 *
 * `server {turn|frame}` prints `ready PORT` and serves on 127.0.0.1 until SIGTERM. It accepts every upgrade, unmasks
 * frames, and answers a transcript with one send(2) a turn, or with one a frame. It leaves out the work of real servers:
 * tokens, checks of input, fragments, and user code. It is a limit for comparisons, not a server for use.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept_key.h"
#include "answers.h"

enum { BACKLOG = 4096, EVENTS = 256, MAX_HEAD = 1 << 14, MAX_MESSAGE = 1 << 24, MAX_UNSENT = 1 << 24, SHARED = 1 << 18 };
enum { CLOSE = 0x88, PING = 0x89, PONG = 0x8a };

static const unsigned char GOODBYE[] = {CLOSE, 2, 1000 >> 8, 1000 & 0xff};
static const char JSON_PONG[] = "\x81\x0f{\"type\":\"pong\"}";
static const char UPGRADE[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: %s\r\n\r\n";
static const char REFUSAL[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/* All connections read into one buffer; only the rest of an unfinished frame is kept with its connection. */
struct connection {
    int fd, upgraded;
    size_t kept, needed; /* bytes in `input`; bytes of the whole frame, or 0 if that is not known */
    unsigned char *input;
    size_t unsent;
    unsigned char *output;
};

static int epoll, send_each_frame;
static unsigned char shared[SHARED];

static void must(int fine, const char *what)
{
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void *allocated(void *memory)
{
    must(memory != NULL, "memory");
    return memory;
}

/* ---------------------------------------------------------------- sending */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    must(epoll_ctl(epoll, operation, c->fd, &event) == 0, "epoll_ctl");
}

/* Send, and keep the bytes that the socket does not take; false if the connection is broken. */
static int send_bytes(struct connection *c, const void *bytes, size_t size)
{
    ssize_t sent = 0;
    if (c->unsent == 0) {
        sent = send(c->fd, bytes, size, MSG_NOSIGNAL);
        if (sent == (ssize_t)size)
            return 1;
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                return 0;
            sent = 0;
        }
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    size -= sent;
    if (c->unsent + size > MAX_UNSENT)
        return 0;
    c->output = allocated(realloc(c->output, c->unsent + size));
    memcpy(c->output + c->unsent, (const char *)bytes + sent, size);
    c->unsent += size;
    return 1;
}

static int send_rest(struct connection *c)
{
    ssize_t sent = send(c->fd, c->output, c->unsent, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    memmove(c->output, c->output + sent, c->unsent -= sent);
    if (c->unsent == 0) {
        free(c->output);
        c->output = NULL;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
    return 1;
}

/* ---------------------------------------------------------------- reading; false or -1 is the connection's end */

static int answer_message(struct connection *c, const char *text, size_t size)
{
    struct question question;
    int found = read_question(text, size, &question);
    if (found > 0) {
        struct answer answer = answer_to(&question);
        size_t step = answer.size;
        for (const unsigned char *at = answer.bytes, *end = at + answer.size; at < end; at += step) {
            if (send_each_frame)
                step = frame_size(at);
            if (!send_bytes(c, at, step))
                return 0;
        }
    } else if (found == 0 && memmem(text, size, "\"close\"", 7) != NULL) {
        send_bytes(c, GOODBYE, sizeof GOODBYE);
        return 0;
    } else if (found == 0 && memmem(text, size, "\"ping\"", 6) != NULL) {
        return send_bytes(c, JSON_PONG, sizeof JSON_PONG - 1);
    }
    return found >= 0;
}

static void unmask(unsigned char *payload, size_t size, const unsigned char *mask)
{
    typedef uint64_t words __attribute__((vector_size(32)));
    words pattern, block;
    size_t at;
    for (at = 0; at < sizeof pattern; at += 4)
        memcpy((unsigned char *)&pattern + at, mask, 4);
    for (at = 0; at + sizeof block <= size; at += sizeof block) {
        memcpy(&block, payload + at, sizeof block);
        block ^= pattern;
        memcpy(payload + at, &block, sizeof block);
    }
    for (; at < size; at++)
        payload[at] ^= mask[at & 3];
}

/* Take one frame from the front and return its size, or 0 if it is not complete. */
static ssize_t take_frame(struct connection *c, unsigned char *in, size_t size)
{
    size_t head = 6, length;
    if (size < (c->needed = head))
        return 0;
    if (!(in[1] & 0x80)) /* clients mask */
        return -1;
    length = in[1] & 0x7f;
    if (length >= 126) {
        head = length == 126 ? 8 : 14;
        if (size < (c->needed = head))
            return 0;
        length = 0;
        for (size_t at = 2; at < head - 4; at++)
            length = length << 8 | in[at];
        if (length > MAX_MESSAGE)
            return -1;
    }
    if (size < (c->needed = head + length))
        return 0;
    unmask(in + head, length, in + head - 4);
    int open = 0;
    if (in[0] == TEXT) {
        open = answer_message(c, (const char *)in + head, length);
    } else if (in[0] == PING && length < 126) {
        unsigned char pong[2 + 125] = {PONG, length};
        memcpy(pong + 2, in + head, length);
        open = send_bytes(c, pong, 2 + length);
    } else if (in[0] == CLOSE) {
        send_bytes(c, GOODBYE, sizeof GOODBYE);
    } else {
        open = in[0] == PONG;
    }
    return open ? (ssize_t)(head + length) : -1;
}

/* As take_frame, for the head of the request. */
static ssize_t take_head(struct connection *c, unsigned char *in, size_t size)
{
    static const char NAME[] = "\r\nSec-WebSocket-Key:";
    char *end = memmem(in, size, "\r\n\r\n", 4), accept[29], answer[sizeof UPGRADE + 28];
    c->needed = 0;
    if (end == NULL)
        return size < MAX_HEAD ? 0 : -1;
    for (char *at = (char *)in; at < end; at++) {
        if (*at != '\r' || strncasecmp(at, NAME, sizeof NAME - 1) != 0)
            continue;
        at += sizeof NAME - 1;
        at += strspn(at, " ");
        size_t length = strcspn(at, " \r");
        if (length > 64)
            return -1;
        accept_key(at, length, accept);
        c->upgraded = 1;
        int bytes = snprintf(answer, sizeof answer, UPGRADE, accept);
        return send_bytes(c, answer, bytes) ? end + 4 - (char *)in : -1;
    }
    send_bytes(c, REFUSAL, sizeof REFUSAL - 1);
    return -1;
}

/* Read once, and take the complete frames. */
static int serve(struct connection *c)
{
    unsigned char *in = shared;
    size_t capacity = SHARED;
    if (c->kept) { /* read on behind the beginning of a frame */
        capacity = c->needed > c->kept ? c->needed : c->kept + MAX_HEAD;
        in = c->input = allocated(realloc(c->input, capacity));
    }
    ssize_t got = recv(c->fd, in + c->kept, capacity - c->kept, 0);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    size_t size = c->kept + got, taken = 0;
    while (taken < size) {
        ssize_t took = (c->upgraded ? take_frame : take_head)(c, in + taken, size - taken);
        if (took < 0)
            return 0;
        if (took == 0)
            break;
        taken += took;
    }
    c->kept = size - taken;
    if (c->kept == 0) {
        free(c->input);
        c->input = NULL;
    } else if (in == shared) {
        c->input = memcpy(allocated(malloc(c->kept)), in + taken, c->kept);
    } else {
        memmove(in, in + taken, c->kept);
    }
    return 1;
}

/* ---------------------------------------------------------------- the loop */

static void accept_all(int listening)
{
    int fd, on = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = allocated(calloc(1, sizeof *c));
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void drop(struct connection *c)
{
    close(c->fd); /* which also takes it out of epoll */
    free(c->input);
    free(c->output);
    free(c);
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct rlimit files;
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN}}; /* the first is that of the listen socket */

    send_each_frame = count == 2 && strcmp(arguments[1], "frame") == 0;
    if (!send_each_frame && (count != 2 || strcmp(arguments[1], "turn") != 0)) {
        fprintf(stderr, "usage: %s {turn|frame}\n", arguments[0]);
        return 2;
    }
    must(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    files.rlim_cur = files.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");

    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(listening >= 0 && bind(listening, (struct sockaddr *)&address, size) == 0, "bind");
    must(listen(listening, BACKLOG) == 0, "listen");
    must(getsockname(listening, (struct sockaddr *)&address, &size) == 0, "getsockname");
    must((epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0, "epoll_create1");
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, listening, events) == 0, "epoll_ctl");
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);

    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        must(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL)
                accept_all(listening);
            else if ((events[i].events & EPOLLOUT && !send_rest(c)) || (events[i].events & ~EPOLLOUT && !serve(c)))
                drop(c);
        }
    }
}
