"""The entries of a history, made in C: a long conversation has hundreds, all of them at every turn."""

from se_server._message cimport ConversationMessage

from collections.abc import Mapping

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index) noexcept
    bint Py_UNICODE_ISALNUM(Py_UCS4 c) noexcept
    bint Py_UNICODE_ISSPACE(Py_UCS4 c) noexcept

cdef enum Form:
    MESSAGE     # {"role": ..., "content": ...}
    PARTS       # {"role": ..., "parts": [{"text": ...}]}
    PAIR        # (role, text)

cdef frozenset AGENTS = frozenset(("agent", "assistant", "ai", "model"))

assert MESSAGE == 0 and PARTS == 1 and PAIR == 2


def is_wordless(text not None):
    return wordless(exact(text))


def entries(transcript, str user not None, str agent not None, str silence_text not None, int form, bint alternates):
    cdef list made = []
    cdef list more = None   # the texts of one sender that follow one another, if they are several
    cdef str first = None, text
    cdef str role
    cdef bint by_user, before = True, is_empty = True
    if transcript is None or isinstance(transcript, (str, dict)):
        raise TypeError(f"a history is made of the transcript, a list of messages, not of {kind_of(transcript)}")
    for message in transcript:
        if type(message) is ConversationMessage:
            role = (<ConversationMessage>message).role
            text = (<ConversationMessage>message).content
        else:
            role, text = read(message)
        by_user = role == "user"
        if not by_user and role != "agent":
            by_user = is_users(role)
        if by_user:
            if silence_text and wordless(text):
                text = silence_text
        elif blank(text):
            continue  # it kept the API waiting; Anthropic and Gemini refuse it
        is_empty = False
        if not alternates:
            before = by_user
            made.append(entry(user if by_user else agent, text, form))
            continue
        if by_user != before:
            made.append(entry(user if before else agent, merged(first, more, silence_text), form))
            first = more = None
            before = by_user
        if first is None:
            first = text
        elif more is None:
            more = [first, text]
        else:
            more.append(text)
    if alternates:
        if not before:
            made.append(entry(agent, merged(first, more, silence_text), form))
            first = more = None
        made.append(entry(user, merged(first, more, silence_text), form))
    elif silence_text and (is_empty or not before):
        made.append(entry(user, silence_text, form))
    return made


cdef tuple read(object message):
    """Return the role and the text of a message of another class, or of a dict."""
    if isinstance(message, Mapping):
        role, text = message.get("role"), message.get("content")
    else:
        role, text = getattr(message, "role", None), getattr(message, "content", None)
        if role is None and text is None:
            raise TypeError(f"a message of a transcript has role and content, and this one is {kind_of(message)}")
    if not isinstance(role, str) or not isinstance(text, str):
        raise TypeError(
            f"a message of a transcript has texts as role and content, and this one has {kind_of(role)} and {kind_of(text)}"
        )
    return exact(role), exact(text)


cdef bint is_users(str role) except -1:
    """Return whether a role of another API is the user's; the agent's is the other.

    Raises:
        ValueError: it is neither's.
    """
    if role == "human":
        return True
    if role in AGENTS:
        return False
    way_out = "pass its text as system=" if role in ("system", "developer") else "leave it out"
    raise ValueError(f"a transcript holds what the user and the agent have said, and no message of the role {role!r}: {way_out}")


cdef str kind_of(object value):
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


cdef str exact(object text):
    """Return a text as a `str`, of which a subclass may be given."""
    return <str>text if type(text) is str else "".join((text,))


cdef str merged(str first, list more, str silence_text):
    if more is not None:
        return "\n".join(more)
    return silence_text if first is None else first


cdef object entry(str role, str text, int form):
    if form == MESSAGE:
        return {"role": role, "content": text}
    if form == PARTS:
        return {"role": role, "parts": [{"text": text}]}
    return role, text


cdef bint wordless(str text) noexcept:
    """Whether a text has no letter and no digit, as those by which the API tells of silence."""
    cdef Py_ssize_t place
    for place in range(PyUnicode_GET_LENGTH(text)):
        if Py_UNICODE_ISALNUM(PyUnicode_READ_CHAR(text, place)):
            return False
    return True


cdef bint blank(str text) noexcept:
    cdef Py_ssize_t place
    for place in range(PyUnicode_GET_LENGTH(text)):
        if not Py_UNICODE_ISSPACE(PyUnicode_READ_CHAR(text, place)):
            return False
    return True
