cdef str text_of(object event):
    return event if isinstance(event,str) else None
