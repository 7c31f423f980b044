# Reading one part of an event, cheaply also where it is missing.

# Every name that is ever asked for. The number of one is its bit in _Kind.on_class.
cdef enum:
    CANDIDATES, CHOICES, CONTENT, DELTA, PARTS, TEXT, THOUGHT, TYPE
    ADDITIONAL_KWARGS, CHUNK, CODE, CONTENT_DELTA, DATA, DONE, ERROR, EVENT, EVENT_KIND, EVENT_TYPE, FINISH_REASON, ID
    INCOMPLETE_DETAILS, INDEX, INPUT_TOKENS, MESSAGE, NS, OBJECT, OUTPUT_TOKENS, PART, PART_DELTA_KIND, PART_KIND
    PROMPT_FEEDBACK, REASON, REFUSAL, RESPONSE, RESPONSE_METADATA, SNAPSHOT, STATUS, STOP_REASON, USAGE, USAGE_METADATA
    X_GROQ

cdef tuple NAMES = (
    "candidates", "choices", "content", "delta", "parts", "text", "thought", "type",
    "additional_kwargs", "chunk", "code", "content_delta", "data", "done", "error", "event", "event_kind", "event_type",
    "finish_reason", "id", "incomplete_details", "index", "input_tokens", "message", "ns", "object", "output_tokens",
    "part", "part_delta_kind", "part_kind", "prompt_feedback", "reason", "refusal", "response", "response_metadata",
    "snapshot", "status", "stop_reason", "usage", "usage_metadata", "x_groq",
)

# Programs know some dozens of event types. One that makes types on the fly must not keep them all alive.
cdef enum:
    MAX_REMEMBERED_TYPES = 256
    # The places of the types seen last: an event, its choice and its delta are of three types, each asked several times.
    PLACES = 64

cdef extern from *:
    """
    #include <stddef.h>
    #include <structmember.h>

    /* The place in an instance of a member that a slot of its class holds; 0: of anything else. */
    static Py_ssize_t se_slot_offset(PyObject *descriptor) {
        PyMemberDef *member;
        if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return 0;
        member = ((PyMemberDescrObject *)descriptor)->d_member;
        return member->type == T_OBJECT_EX || member->type == T_OBJECT ? member->offset : 0;
    }

    /* A borrowed reference, or NULL where the slot is empty. */
    #define se_in_slot(event, offset) (*(PyObject **)((char *)(event) + (offset)))
    """
    Py_ssize_t se_slot_offset(object descriptor)
    PyObject *se_in_slot(object event, Py_ssize_t offset)


cdef class _Kind:
    """The way to read instances of one type."""

    cdef object type  # strong: the address is the key, and must not be used again while it stands there
    cdef bint is_pydantic
    cdef Py_ssize_t extra_offset  # of the slot `__pydantic_extra__`; 0: read by its name
    cdef unsigned long long on_class  # names that a property or a default of the class answers for, not the fields
    cdef set names_on_class  # all of them
    cdef object extractor  # the user's own, else None
    cdef int package_form  # one of PACKAGE_FORMS; 0: read by its structure

    def __cinit__(self, object event_type):
        self.type = event_type
        cdef object getattr_hook = None
        self.names_on_class = set()
        for base in reversed(event_type.__mro__):
            members = base.__dict__
            getattr_hook = members.get("__getattr__", getattr_hook)
            self.names_on_class.update(members)
            for number, name in enumerate(NAMES):
                if name in members:
                    self.on_class |= 1ULL << <int>number
        # By its names, not by identity: a server whose agent does not use pydantic has not imported it.
        self.is_pydantic = (
            getattr(getattr_hook, "__module__", None) == "pydantic.main"
            and getattr(getattr_hook, "__qualname__", None) == "BaseModel.__getattr__"
            and event_type.__getattribute__ is object.__getattribute__
        )
        if self.is_pydantic:
            self.extra_offset = se_slot_offset(getattr(event_type, "__pydantic_extra__", None))
        self.extractor = extractor_for(event_type)
        for base in event_type.__mro__:
            package = getattr(base, "__module__", None)
            if isinstance(package, str):
                form = PACKAGE_FORMS.get((package.partition(".")[0], base.__name__))
                if form is not None:
                    self.package_form = form
                    break


cdef dict kinds = {}
# Borrowed from `kinds`.
cdef PyObject *places[PLACES]


cdef inline _Kind kind_of(object event):
    cdef PyTypeObject *event_type = Py_TYPE(event)
    cdef PyObject *known = places[(<size_t>event_type >> 5) % PLACES]
    if known != NULL and <PyTypeObject *>(<_Kind>known).type == event_type:
        return <_Kind>known
    return looked_up(event_type)


cdef _Kind looked_up(PyTypeObject *event_type):
    # By address: a metaclass may make its classes unhashable.
    cdef object address = PyLong_FromVoidPtr(<void *>event_type)
    cdef PyObject *known = PyDict_GetItemWithError(kinds, address)
    cdef _Kind kind
    if known != NULL:
        kind = <_Kind>known
    else:
        if len(kinds) >= MAX_REMEMBERED_TYPES:
            forget_types()
        kind = _Kind.__new__(_Kind, <object>event_type)
        kinds[address] = kind
    places[(<size_t>event_type >> 5) % PLACES] = <PyObject *>kind
    return kind


def forget_types():
    cdef int place
    for place in range(PLACES):
        places[place] = NULL
    kinds.clear()


cdef object get(object event, int number):
    """The part of that name, None where there is none: `get(name)` of a dict, else `getattr(event, name, None)`."""
    cdef str name = <str>NAMES[number]
    cdef PyObject *value = NULL
    cdef _Kind kind
    if event is None:
        return None
    if PyDict_CheckExact(event):
        value = PyDict_GetItemWithError(event, name)
        return None if value == NULL else <object>value
    if PyDict_Check(event):
        return event.get(name)
    if not se_is_plain(event):
        kind = kind_of(event)
        if kind.is_pydantic and not kind.on_class & (1ULL << number):
            return field(event, name, kind.extra_offset)
    if se_optional_attribute(event, name, &value) == 0:
        return None
    found = <object>value
    Py_XDECREF(value)  # the call gave us a reference, the assignment took its own
    return found


cdef object field(object event, str name, Py_ssize_t extra_offset):
    """A field or an extra of a pydantic model: where its own `__getattr__` looks, without the exception."""
    cdef object members = PyObject_GenericGetDict(event, NULL)
    cdef PyObject *value = PyDict_GetItemWithError(members, name)
    if value != NULL:
        return <object>value
    if extra_offset:
        value = se_in_slot(event, extra_offset)
        if value == NULL:  # nobody has filled it: the instance was made by hand
            return None
        members = <object>value
    else:
        try:
            members = PyObject_GenericGetAttr(event, "__pydantic_extra__")
        except AttributeError:
            return None
    if not PyDict_Check(members):
        return None
    value = PyDict_GetItemWithError(members, name)
    return None if value == NULL else <object>value


cdef inline str exact(object text):
    """The text as an exact `str`, None if it is no string. Never calls a subclass' `__str__`: an Enum's is its name."""
    if PyUnicode_CheckExact(text):
        return <str>text
    if PyUnicode_Check(text):
        return PyUnicode_FromObject(text)
    return None


cdef inline bint is_list(object entries):
    return PyList_Check(entries) or PyTuple_Check(entries)


cdef object count(object number):
    """A number of tokens, None if it is none."""
    return number if PyLong_Check(number) and not isinstance(number, bool) and number >= 0 else None


cdef object any_of(object event, tuple names):
    """The first of these members that is there and not None; for events that are rarer than those with text."""
    cdef _Kind kind
    cdef PyObject *value = NULL
    cdef bint has_fields = False
    if event is None:
        return None
    if not PyDict_Check(event) and not se_is_plain(event):
        kind = kind_of(event)
        has_fields = kind.is_pydantic
    for name in names:
        if PyDict_Check(event):
            found = event.get(name)
        elif has_fields and name not in kind.names_on_class:
            found = field(event, name, kind.extra_offset)
        elif se_optional_attribute(event, name, &value):
            found = <object>value
            Py_XDECREF(value)
        else:
            found = None
        if found is not None:
            return found
    return None


cdef str label(object value):
    """A reason or a code as text: of an enum its value, None of anything that is neither text nor number."""
    if PyUnicode_Check(value):
        return exact(value)
    value = getattr(value, "value", value)
    if PyUnicode_Check(value):
        return exact(value)
    return str(value) if PyLong_Check(value) and not isinstance(value, bool) else None
