cdef class ConversationMessage:
    cdef readonly str role
    cdef readonly str content


cdef ConversationMessage make(str role, str content)
