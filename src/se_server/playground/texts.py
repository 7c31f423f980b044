"""The texts that arrived for a turn: whether each was heard, and why another was not."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Text:
    """One text that arrived for a turn.

    Attributes:
        order: its place among all texts of the turn.
        why: the reason why nobody heard it.
    """

    text: str
    event_id: int
    at_s: float
    order: int
    is_heard: bool
    why: str = ""

    def picture(self, said_at_s: float) -> dict[str, Any]:
        """Return it for the page.

        Args:
            said_at_s: when the user had spoken, on the clock of `at_s`.
        """
        after_s = round(self.at_s - said_at_s, 6)
        return {"text": self.text, "after_s": after_s, "heard": self.is_heard, "why": self.why}


def cut(texts: list[Text], heard_chars: int) -> None:
    """Mark what follows the first characters of the heard texts as not spoken."""
    left = heard_chars
    for place, text in enumerate(list(texts)):
        if not text.is_heard:
            continue
        if left < len(text.text):
            rest = dataclasses.replace(text, text=text.text[left:], is_heard=False, why="not spoken any more")
            if left:
                texts.insert(place + 1, rest)
                text.text = text.text[:left]
            else:
                texts[place] = rest
            for later in texts[place + 1 :]:
                if later.is_heard:
                    later.is_heard, later.why = False, "not spoken any more"
            return
        left -= len(text.text)
