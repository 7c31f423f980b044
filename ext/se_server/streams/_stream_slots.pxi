# The ways into a stream from C: those of a source that has texts, and those of the coroutine that awaits it.

cdef bint deliver(object stream, list texts) except -1:
    return (<Stream>stream)._deliver(texts)


cdef int resume(object stream, Scanner scanner, bint has_text) except -1:
    return (<Stream>stream)._resume(scanner, has_text)


# The slots by which coroutines drive a stream. Cython has no name for the one, and would end the other by an exception,
# whose traceback costs as much as all the rest of a short answer.

cdef PyObject* _stream_next(object stream) except? NULL:
    cdef PyObject* yielded = NULL
    (<Stream>stream)._run(None, &yielded)
    return yielded


cdef int _stream_send(object stream, object value, PyObject** result) except -1:
    cdef int status = (<Stream>stream)._run(value, result)
    if status == PYGEN_RETURN:
        Py_INCREF(None)
        result[0] = <PyObject*>None
    return status


(<PyTypeObject*>Stream).tp_iternext = _stream_next
(<PyTypeObject*>Stream).tp_as_async.am_send = _stream_send
