"""The text inside one LLM event: one table of formats, and a cheap way to ask an event for a part it may not have.

Asking is what costs. Most events lack most parts, and a pydantic model takes 5-18 us to say so: its `__getattr__` is
Python and formats an exception. What is remembered per event type is therefore how to read it: a model's fields and
extras lie in two dicts, where a missing name costs 20 ns. Every event is still matched against the whole table, in
order, so that a type that carries one provider's shape now and another's next (SimpleNamespace) is right each time.
"""

from cpython.dict cimport PyDict_Check, PyDict_CheckExact, PyDict_GetItemWithError
from cpython.float cimport PyFloat_Check
from cpython.list cimport PyList_Check
from cpython.long cimport PyLong_Check, PyLong_FromVoidPtr
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_XDECREF
from cpython.tuple cimport PyTuple_Check
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact

cdef extern from *:
    """
    /* Reads an attribute without making an exception of a missing one where the type allows. Public since 3.13. */
    #if PY_VERSION_HEX < 0x030D0000
    #define se_optional_attribute _PyObject_LookupAttr
    #else
    #define se_optional_attribute PyObject_GetOptionalAttr
    #endif
    /* Whether missing attributes are told by C code alone: no __getattr__ or __getattribute__ of Python's. */
    #define se_is_plain(event) (Py_TYPE(event)->tp_getattro == PyObject_GenericGetAttr)
    """
    int se_optional_attribute(object event, str name, PyObject **value) except -1
    bint se_is_plain(object event)
    object PyObject_GenericGetDict(object event, void *context)
    object PyObject_GenericGetAttr(object event, str name)
    object PyUnicode_FromObject(object text)


# --- reading one part of an event -----------------------------------------------------------------------------------

# Every name that is ever asked for. The number of one is its bit in _Model.on_class.
cdef enum:
    CANDIDATES
    CHOICES
    CONTENT
    DELTA
    PARTS
    TEXT
    THOUGHT
    TYPE

cdef tuple NAMES = ("candidates", "choices", "content", "delta", "parts", "text", "thought", "type")

# Programs know some dozens of event types. One that makes types on the fly must not keep them all alive.
cdef enum:
    MAX_REMEMBERED_TYPES = 256


cdef class _Model:
    """The way to read instances of one type whose `__getattr__` is Python."""

    cdef object type  # strong: the address is the key, and must not be used again while it stands there
    cdef bint is_pydantic
    cdef unsigned int on_class  # names that a property or a default of the class answers for, not the fields

    def __cinit__(self, object event_type):
        self.type = event_type
        cdef object getattr_hook = None
        for base in reversed(event_type.__mro__):
            members = base.__dict__
            getattr_hook = members.get("__getattr__", getattr_hook)
            for number, name in enumerate(NAMES):
                if name in members:
                    self.on_class |= 1 << number
        # By its names, not by identity: a server whose agent does not use pydantic has not imported it.
        self.is_pydantic = (
            getattr(getattr_hook, "__module__", None) == "pydantic.main"
            and getattr(getattr_hook, "__qualname__", None) == "BaseModel.__getattr__"
            and event_type.__getattribute__ is object.__getattribute__
        )


cdef dict models = {}


cdef _Model model_of(object event):
    # By address: a metaclass may make its classes unhashable.
    cdef object address = PyLong_FromVoidPtr(<void *>Py_TYPE(event))
    cdef PyObject *known = PyDict_GetItemWithError(models, address)
    if known != NULL:
        return <_Model>known
    if len(models) >= MAX_REMEMBERED_TYPES:
        models.clear()
    cdef _Model model = _Model.__new__(_Model, <object>Py_TYPE(event))
    models[address] = model
    return model


cdef object get(object event, int number):
    """The part of that name, None where there is none: `event.get(name)` of a dict, else `getattr(event, name, None)`."""
    cdef str name = <str>NAMES[number]
    cdef PyObject *value = NULL
    if PyDict_CheckExact(event):
        value = PyDict_GetItemWithError(event, name)
        return None if value == NULL else <object>value
    if PyDict_Check(event):
        return event.get(name)
    if not se_is_plain(event):
        model = model_of(event)
        if model.is_pydantic and not model.on_class & <unsigned int>(1 << number):
            return field(event, name)
    if se_optional_attribute(event, name, &value) == 0:
        return None
    found = <object>value
    Py_XDECREF(value)  # the call gave us a reference, the assignment took its own
    return found


cdef object field(object event, str name):
    """A field or an extra of a pydantic model: where its own `__getattr__` looks, without the exception."""
    cdef object members = PyObject_GenericGetDict(event, NULL)
    cdef PyObject *value = PyDict_GetItemWithError(members, name)
    if value != NULL:
        return <object>value
    try:
        members = PyObject_GenericGetAttr(event, "__pydantic_extra__")
    except AttributeError:  # a slot that nobody has filled: the instance was made by hand
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


# --- the formats ----------------------------------------------------------------------------------------------------

# `first` is the first entry of the list that the event was recognised by; None if it was recognised by its type.
ctypedef str (*Extract)(object event, object first)


cdef str responses_text(object event, object first):
    return exact(get(event, DELTA))


cdef str chat_text(object event, object first):
    delta = get(first, DELTA)
    return None if delta is None else exact(get(delta, CONTENT))


cdef str anthropic_text(object event, object first):
    delta = get(event, DELTA)
    if delta is not None and get(delta, TYPE) == "text_delta":
        return exact(get(delta, TEXT))
    return None


cdef str gemini_text(object event, object first):
    content = get(first, CONTENT)
    if content is None:
        return None
    parts = get(content, PARTS)
    if not (PyList_Check(parts) or PyTuple_Check(parts)):
        return None
    cdef str text
    cdef str joined = None
    for part in parts:
        if get(part, THOUGHT) is True:
            continue
        text = exact(get(part, TEXT))
        if text is not None:
            joined = text if joined is None else joined + text
    return joined


cdef class _Format:
    """One provider's events: how they are recognised, and where their text is."""

    cdef str name
    cdef str type_is  # recognised by this value of `type`,
    cdef int list_in  # or, where that is None, by a list under this name that is not empty
    cdef Extract extract


cdef _Format row(str name, str type_is, int list_in, Extract extract):
    cdef _Format format = _Format.__new__(_Format)
    format.name, format.type_is, format.list_in, format.extract = name, type_is, list_in, extract
    return format


# In the order of the published SDK, which decides where an event fits several. `type` names exactly one event of each
# API: the others carry reasoning, refusals and tool arguments under the same keys, or repeat the whole text.
cdef tuple FORMATS = (
    row("openai.responses", "response.output_text.delta", 0, responses_text),
    row("openai.chat", None, CHOICES, chat_text),
    row("anthropic.messages", "content_block_delta", 0, anthropic_text),
    row("google.gemini", None, CANDIDATES, gemini_text),
)


cpdef str text_of(object event):
    """Return the text to speak of one LLM event, or None where there is none."""
    if PyUnicode_Check(event):
        return exact(event)
    if event is None or PyLong_Check(event) or PyFloat_Check(event):
        return None
    cdef _Format format
    cdef str text
    cdef object event_type = get(event, TYPE)
    cdef object entries
    for entry in FORMATS:
        format = <_Format>entry
        if format.type_is is not None:
            text = format.extract(event, None) if event_type == format.type_is else None
        else:
            entries = get(event, format.list_in)
            if (PyList_Check(entries) or PyTuple_Check(entries)) and len(entries) > 0:
                text = format.extract(event, entries[0])
            else:
                text = None
        if text is not None:
            return text
    return None
