"""ConversationMessage, compiled because a long call builds hundreds of them a turn.

It is no subclass of anything: C code (orjson, pydantic) sees plain attributes, and nobody can change a message that
a later turn will reuse.
"""

cimport cython

import dataclasses
import json


@dataclasses.dataclass
class _Fields:
    role: str
    content: str


@cython.freelist(64)
cdef class ConversationMessage:
    """One message of the conversation so far, immutable, compared and hashed by value.

    Args:
        role: who sent it, `"user"` or `"agent"`.
        content: its text.

    Raises:
        TypeError: a value is no `str`.
    """

    # orjson serialises whatever has the fields of a dataclass; rich and dataclasses.asdict understand it too.
    __dataclass_fields__ = _Fields.__dataclass_fields__
    __match_args__ = ("role", "content")

    def __init__(self, str role not None, str content not None):
        self.role = role
        self.content = content

    def model_dump(self, **_options):
        """Return `{"role": ..., "content": ...}`, as the published SDK's pydantic model does."""
        return {"role": self.role, "content": self.content}

    def model_dump_json(self, **_options):
        """Return the message as a compact JSON object, in a `str`."""
        return json.dumps(self.model_dump(), ensure_ascii=False, separators=(",", ":"))

    def __iter__(self):
        # Pairs, as a pydantic model iterates: this is what makes dict(message) work.
        return iter((("role", self.role), ("content", self.content)))

    def __eq__(self, other):
        if not isinstance(other, ConversationMessage):
            return NotImplemented
        cdef ConversationMessage message = <ConversationMessage>other
        return self.role == message.role and self.content == message.content

    def __hash__(self):
        return hash((self.role, self.content))

    def __repr__(self):
        return f"ConversationMessage(role={self.role!r}, content={self.content!r})"

    def __reduce__(self):
        return ConversationMessage, (self.role, self.content)

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        from pydantic_core import core_schema

        def validate(value):
            if isinstance(value, ConversationMessage):
                return value
            if isinstance(value, dict):
                try:
                    return ConversationMessage(value["role"], value["content"])
                except (KeyError, TypeError):
                    pass
            raise ValueError("expected a ConversationMessage or {'role': str, 'content': str}")

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda message: message.model_dump()),
        )


cdef ConversationMessage make(str role, str content):
    """The constructor for C callers: no argument parsing."""
    cdef ConversationMessage message = ConversationMessage.__new__(ConversationMessage)
    message.role = role
    message.content = content
    return message
