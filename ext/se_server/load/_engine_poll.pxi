# Polling of sockets: epoll directly; on other systems Python's `selectors`, which costs some microseconds more.

cdef extern from *:
    """
    #ifdef __linux__
    #define _SE_HAS_EPOLL 1
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <sys/epoll.h>
    #include <sys/prctl.h>

    static int se_epoll_new(void) {
        prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);  /* of 50 us, by which the kernel else wakes late */
        return epoll_create1(EPOLL_CLOEXEC);
    }
    static int se_epoll_set(int epoll, int fd, uint64_t data, int is_new, int writes) {
        struct epoll_event event;
        event.events = EPOLLIN | EPOLLRDHUP | (writes ? EPOLLOUT : 0);
        event.data.u64 = data;
        return epoll_ctl(epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
    }
    static int se_epoll_unset(int epoll, int fd) { return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0); }
    static int se_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t timeout_ns) {
        int ready;
        if (timeout_ns >= 3000000)  /* good to a millisecond; the rest of the time comes next time */
            return epoll_wait(epoll, events, most, (int) (timeout_ns / 1000000) - 1);
        ready = epoll_wait(epoll, events, most, 0);
        if (ready == 0 && timeout_ns > 0) {
            struct pollfd one = { epoll, POLLIN, 0 };
            struct timespec timeout = { 0, timeout_ns };
            ready = ppoll(&one, 1, &timeout, 0);
            if (ready > 0)
                ready = epoll_wait(epoll, events, most, 0);
        }
        return ready;
    }
    #define se_data(event) ((event).data.u64)
    #define se_readable(event) (((event).events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
    #define se_writable(event) (((event).events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
    #else
    #define _SE_HAS_EPOLL 0
    #include <stdint.h>
    struct epoll_event { uint64_t data; };
    static int se_epoll_new(void) { return -1; }
    static int se_epoll_set(int epoll, int fd, uint64_t data, int is_new, int writes) { return -1; }
    static int se_epoll_unset(int epoll, int fd) { return -1; }
    static int se_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t timeout_ns) { return -1; }
    #define se_data(event) ((event).data)
    #define se_readable(event) 0
    #define se_writable(event) 0
    #endif
    """
    ctypedef struct Event "struct epoll_event":
        pass
    bint HAS_EPOLL "_SE_HAS_EPOLL"
    int se_epoll_new() nogil
    int se_epoll_set(int epoll, int fd, uint64_t data, bint is_new, bint writes) nogil
    int se_epoll_unset(int epoll, int fd) nogil
    int se_epoll_wait(int epoll, Event* events, int most, int64_t timeout_ns) nogil
    uint64_t se_data(Event event) nogil
    bint se_readable(Event event) nogil
    bint se_writable(Event event) nogil

cdef enum:
    EVENTS = 256

cdef struct Ready:
    uint64_t key
    bint reads
    bint writes


cdef class Poller:
    """A level-triggered poller of sockets, each with a key. Every socket is polled for reading."""
    cdef int _epoll
    cdef object _selector
    cdef Event _events[EVENTS]
    cdef Ready ready[EVENTS]
    cdef int64_t spun_ns

    def __cinit__(self, bint is_portable):
        self._epoll = -1
        if HAS_EPOLL and not is_portable:
            self._epoll = se_epoll_new()
            if self._epoll < 0:
                PyErr_SetFromErrno(OSError)
        else:
            self._selector = selectors.DefaultSelector()

    cdef int add(self, int fd, uint64_t key, bint writes) except -1:
        return self._set(fd, key, True, writes)

    cdef int change(self, int fd, uint64_t key, bint writes) except -1:
        return self._set(fd, key, False, writes)

    cdef int _set(self, int fd, uint64_t key, bint is_new, bint writes) except -1:
        if self._selector is None:
            if se_epoll_set(self._epoll, fd, key, is_new, writes) < 0:
                PyErr_SetFromErrno(OSError)
            return 0
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0)
        (self._selector.register if is_new else self._selector.modify)(fd, wanted, key)
        return 0

    cdef int remove(self, int fd) except -1:
        if self._selector is not None:
            self._selector.unregister(fd)
        elif se_epoll_unset(self._epoll, fd) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef int wait(self, int64_t timeout_ns, bint spins) except -1:
        """Return the number of entries in `ready`. Spinning avoids late wake-ups and uses a whole core."""
        cdef int count, place
        cdef int64_t ends_ns, cpu_ns
        if self._selector is not None:
            count = 0
            for key, events in self._selector.select(timeout_ns / 1e9)[:EVENTS]:
                self.ready[count].key = key.data
                self.ready[count].reads = events & selectors.EVENT_READ != 0
                self.ready[count].writes = events & selectors.EVENT_WRITE != 0
                count += 1
            return count
        with nogil:
            count = se_epoll_wait(self._epoll, self._events, EVENTS, 0 if spins else timeout_ns)
            if spins and count == 0:
                ends_ns = now_ns() + timeout_ns
                cpu_ns = clock(CLOCK_PROCESS_CPUTIME_ID)
                while count == 0 and now_ns() < ends_ns:
                    count = se_epoll_wait(self._epoll, self._events, EVENTS, 0)
                self.spun_ns += clock(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns
        if count < 0:
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            return 0
        for place in range(count):
            self.ready[place].key = se_data(self._events[place])
            self.ready[place].reads = se_readable(self._events[place])
            self.ready[place].writes = se_writable(self._events[place])
        return count

    cdef int close(self) except -1:
        if self._selector is not None:
            self._selector.close()
        elif self._epoll >= 0:
            os.close(self._epoll)
        self._epoll = -1
        return 0
