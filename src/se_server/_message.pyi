from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

@final
class ConversationMessage:
    """One message of the conversation so far, immutable, compared and hashed by value.

    Args:
        role: the sender, `"user"` or `"agent"`.
        content: its text.

    Raises:
        TypeError: a value is not a `str`.
    """

    __match_args__: ClassVar[tuple[str, str]]
    __dataclass_fields__: ClassVar[dict[str, Any]]
    def __init__(self, role: str, content: str) -> None: ...
    @property
    def role(self) -> str:
        """The sender, `"user"` or `"agent"`."""

    @property
    def content(self) -> str:
        """Its text."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return `{"role": ..., "content": ...}`, as the published SDK's pydantic model does.

        Args:
            **options: `include` and `exclude`, the names of the fields to return or to omit. Other options of
                pydantic's method have no effect.
        """

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return the message as a JSON object: compact, or indented by `indent` spaces; options as for `model_dump`."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> ConversationMessage:
        """Return a copy with the fields of `update` replaced; without `update`, this message, which is immutable."""

    @classmethod
    def model_validate(cls, obj: object, **options: object) -> ConversationMessage:
        """Return the message that a mapping, or an object with `role` and `content`, describes.

        Raises:
            ValueError: `obj` describes no message.
        """

    @classmethod
    def model_validate_json(cls, json_data: str | bytes, **options: object) -> ConversationMessage:
        """Return the message that a JSON object describes.

        Raises:
            ValueError: it is not JSON, or does not describe a message.
        """

    def __iter__(self) -> Iterator[tuple[str, str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
