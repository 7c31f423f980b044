from collections.abc import Iterable
from typing import Any

def is_wordless(text: str) -> bool:
    """Return whether a text has no letter and no digit, as those by which the API tells of silence."""

def entries(
    transcript: Iterable[Any], user: str, agent: str, silence_text: str, form: int, alternates: bool
) -> list[Any]:
    """Return the entries of a history, new at each call; the agent's messages without text are left out.

    Args:
        transcript: objects with `role` and `content`, or dicts with these keys.
        user, agent: the names of the senders.
        silence_text: stands for a user message without words, and ends a history that the agent ends; empty: neither.
        form: 0 for `{"role": ..., "content": ...}`, 1 for `{"role": ..., "parts": [{"text": ...}]}`, 2 for pairs.
        alternates: whether texts of one sender are merged, and the user's are first and last.

    Raises:
        TypeError: something is no message.
        ValueError: a message is neither the user's nor the agent's.
    """
