# Python's own way to drive coroutines and async generators, without exceptions and method calls.

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PYGEN_ERROR
    # Errors are checked by hand: a `try` in the loop would save and restore the exception state for every event.
    int PyIter_Send(object iterator, object value, PyObject** result)

    ctypedef PyObject* (*iternextfunc)(object) except? NULL
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1

    ctypedef struct PyAsyncMethods:
        unaryfunc am_await
        unaryfunc am_anext
        sendfunc am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        iternextfunc tp_iternext

    PyTypeObject* Py_TYPE(object)

    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index) noexcept
    int PyUnicode_Tailmatch(object text, object part, Py_ssize_t start, Py_ssize_t end, int direction) except -1

cdef extern from *:
    """
    /* The hook for the first `__anext__` of an async generator, by which an event loop notes all generators for its end.
       A stream closes its generator itself, so that the note, a twentieth of a short turn, would be for nothing. What
       the loop does with a generator that is collected unclosed stays as it is. */
    static PyObject *se_first_anext(PyObject *iterator, unaryfunc anext) {
    #if PY_VERSION_HEX < 0x030F0000
        PyThreadState *thread = PyThreadState_Get();
        PyObject *hook = thread->async_gen_firstiter;
        thread->async_gen_firstiter = NULL;
        PyObject *result = anext(iterator);
        thread->async_gen_firstiter = hook;
        return result;
    #else
        return anext(iterator);
    #endif
    }
    """
    PyObject* se_first_anext(object iterator, unaryfunc anext)


cdef int reraise() except -1:
    """Raise the exception that a C function left."""
    return -1


cdef inline object _awaiting(object awaitable):
    """Return the iterator behind an awaitable, as the `await` expression does."""
    cdef PyObject* iterator
    cdef PyAsyncMethods* methods = Py_TYPE(awaitable).tp_as_async
    if methods is not NULL and methods.am_await is not NULL:
        iterator = methods.am_await(awaitable)
        if iterator is NULL:
            reraise()
        return _owned(iterator)
    if isinstance(awaitable, GeneratorType):  # generators of types.coroutine have no __await__
        return awaitable
    raise TypeError(f"the stream's __anext__ gave {type(awaitable).__name__}, which cannot be awaited")


cdef inline object _owned(PyObject* result):
    """Take over the reference that a C function gave."""
    taken = <object>result
    Py_XDECREF(result)
    return taken
