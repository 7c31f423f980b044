"""The clock of turns. `time.monotonic` is read in C, because every turn reads the clock several times."""

cimport cython

import time

cdef extern from *:
    """
    #include <time.h>

    /* What time.monotonic() reads: on macOS that is the clock that stands still while the machine sleeps. */
    #ifdef CLOCK_UPTIME_RAW
    #define SE_MONOTONIC CLOCK_UPTIME_RAW
    #else
    #define SE_MONOTONIC CLOCK_MONOTONIC
    #endif

    static double se_monotonic_s(void) {
        struct timespec now;
        clock_gettime(SE_MONOTONIC, &now);
        return (double)((long long)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9;
    }
    """
    double se_monotonic_s() noexcept nogil


@cython.final
cdef class Clock:
    cpdef double now(self) except? -1:
        """Return seconds that never go back."""
        return se_monotonic_s() if self._source is None else self._source()


cdef Clock _monotonic = Clock()


cpdef Clock clock_of(object source):
    """Return the clock that a function reads; that of `time.monotonic` is the same for all."""
    if source is time.monotonic:
        return _monotonic
    cdef Clock clock = Clock()
    clock._source = source
    return clock
