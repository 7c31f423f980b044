"""ConversationMessage, compiled because a long conversation builds hundreds of them per turn.

It inherits from nothing: C code (orjson, pydantic) sees plain attributes, and handlers cannot change a message
that a later turn reuses.
"""

cimport cython

import dataclasses
import json
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class _Fields:
    """One message of the conversation so far."""

    role: str
    content: str


@cython.freelist(64)
cdef class ConversationMessage:
    """One message of the conversation so far, immutable, compared and hashed by value.

    Args:
        role: the sender, `"user"` or `"agent"`.
        content: its text.

    Raises:
        TypeError: a value is not a `str`.
    """

    # orjson serialises any object with the fields of a dataclass; rich and dataclasses.asdict support it, too.
    __dataclass_fields__ = _Fields.__dataclass_fields__
    __match_args__ = ("role", "content")

    def __init__(self, str role not None, str content not None):
        self.role = role
        self.content = content

    @cython.binding(True)
    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return `{"role": ..., "content": ...}`, as the published SDK's pydantic model does.

        Args:
            **options: `include` and `exclude`, the names of the fields to return or to omit. Other options of
                pydantic's method have no effect.
        """
        if not options:
            return {"role": self.role, "content": self.content}
        return {name: value for name, value in self if _is_chosen(name, **options)}

    @cython.binding(True)
    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return the message as a JSON object: compact, or indented by `indent` spaces; options as for `model_dump`."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.model_dump(**options), ensure_ascii=False, separators=separators, indent=indent)

    @cython.binding(True)
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> ConversationMessage:
        """Return a copy with the fields of `update` replaced; without `update`, this message, which is immutable."""
        return self if not update else ConversationMessage(**{**dict(self), **update})

    @classmethod
    def model_validate(cls, obj, **options):
        """Return the message that a mapping, or an object with `role` and `content`, describes.

        Raises:
            ValueError: `obj` describes no message.
        """
        if isinstance(obj, ConversationMessage):
            return obj
        try:
            if hasattr(obj, "keys"):
                return ConversationMessage(obj["role"], obj["content"])
            return ConversationMessage(obj.role, obj.content)
        except (AttributeError, LookupError, TypeError):
            pass
        raise ValueError("expected a ConversationMessage or {'role': str, 'content': str}")

    @classmethod
    def model_validate_json(cls, json_data, **options):
        """Return the message that a JSON object describes.

        Raises:
            ValueError: it is not JSON, or does not describe a message.
        """
        return cls.model_validate(json.loads(json_data))

    def __iter__(self):
        # Pairs, as a pydantic model yields them, so that dict(message) works.
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

        field = core_schema.typed_dict_field
        fields = core_schema.typed_dict_schema(
            {"role": field(core_schema.str_schema()), "content": field(core_schema.str_schema())},
            cls_name="ConversationMessage",
        )

        def validate(value, read):
            if isinstance(value, ConversationMessage):
                return value
            return ConversationMessage(**read(value))

        return core_schema.no_info_wrap_validator_function(
            validate,
            fields,
            ref=f"{cls.__module__}.{cls.__qualname__}",
            serialization=core_schema.plain_serializer_function_ser_schema(cls.model_dump, return_schema=fields),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        described = handler.resolve_ref_schema(handler(schema))
        described.update(title="ConversationMessage", description=_Fields.__doc__)
        return described


def _is_chosen(name, **options):
    """Whether a field is included. A choice is a set of names, or a dict from names to booleans."""
    wanted, unwanted = options.get("include"), options.get("exclude")
    return (wanted is None or _is_named(name, wanted)) and (unwanted is None or not _is_named(name, unwanted))


def _is_named(name, choice):
    return choice.get(name, False) is not False if isinstance(choice, dict) else name in choice


cdef ConversationMessage make(str role, str content):
    """The constructor for C callers: no argument parsing."""
    cdef ConversationMessage message = ConversationMessage.__new__(ConversationMessage)
    message.role = role
    message.content = content
    return message
