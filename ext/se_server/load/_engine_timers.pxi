# Timers in a binary heap. A timer is never removed before it fires; stale ones are ignored then.

cdef enum Due:
    WATCH = 0  # an answer, or the next step of a connection, may be overdue
    ASK = 1  # the pause before a question is over
    HANG_UP = 2  # the conversation has lasted long enough
    CALL = 3  # call again after a failure

cdef struct Timer:
    int64_t at_ns
    int32_t place  # the place of the conversation
    uint32_t generation  # the generation of its connection
    Due due

cdef struct Timers:
    Timer* heap
    Py_ssize_t size
    Py_ssize_t room


cdef int push(Timers* timers, int64_t at_ns, int32_t place, uint32_t generation, Due due) except -1:
    cdef Timer* heap = timers.heap
    cdef Py_ssize_t child = timers.size, parent
    if timers.size == timers.room:
        timers.room = max(64, 2 * timers.room)
        heap = <Timer*> PyMem_Realloc(heap, timers.room * sizeof(Timer))
        if heap == NULL:
            raise MemoryError()
        timers.heap = heap
    timers.size += 1
    while child:
        parent = (child - 1) >> 1
        if heap[parent].at_ns <= at_ns:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child].at_ns = at_ns
    heap[child].place = place
    heap[child].generation = generation
    heap[child].due = due
    return 0


cdef Timer pop(Timers* timers) noexcept:
    cdef Timer* heap = timers.heap
    cdef Timer first = heap[0]
    cdef Timer last
    cdef Py_ssize_t parent = 0, child = 1
    timers.size -= 1
    last = heap[timers.size]
    while child < timers.size:
        if child + 1 < timers.size and heap[child + 1].at_ns < heap[child].at_ns:
            child += 1
        if last.at_ns <= heap[child].at_ns:
            break
        heap[parent] = heap[child]
        parent = child
        child = 2 * parent + 1
    heap[parent] = last
    return first
