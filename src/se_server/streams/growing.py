"""Tells texts of which each repeats the one before it, and goes on, from texts that only look so.

"Good", "Good morning", "Good morning!" is one text that grows; "ha", "haha" is laughter. A growing text is recognised
by its source, or by evidence: from the first text on, each begins with the whole text before it. The evidence is
counted in different letters and digits of the part that was repeated: three repetitions of 3, two of 6, or one of 10;
two of 3 if the stream then ends. Texts are held back while it grows, and given in full, in order, when the next text
breaks the chain: ordinary text loses nothing.
"""

from __future__ import annotations

from typing import Any

REPEATED_OFTEN = 3
REPEATED_TWICE = 6
REPEATED_ONCE = 10
# Evidence that takes longer than this is none; nobody waits for it.
MAX_HELD_TEXTS = 32

GROWING_GENERATORS = {("pydantic_ai", "stream_text"), ("pydantic_ai", "stream_output")}


def is_known_to_grow(source: Any) -> bool:
    """Whether a stream is one of a package's whose texts grow: pydantic-ai's `stream_text()` without `delta=True`."""
    frame = getattr(source, "ag_frame", None)
    if frame is None:
        return False
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return (package, frame.f_code.co_name) in GROWING_GENERATORS and not frame.f_locals.get("delta")


class Growing:
    """Watches texts that may be one text that grows.

    Args:
        first: the text that was spoken, and that the next one begins with.
        is_known: whether it is known that the text grows.

    Attributes:
        is_over: the texts are ordinary ones; nothing more needs to be watched.
    """

    __slots__ = ("_held", "_is_known", "_repeated", "_said", "is_over")

    def __init__(self, first: str, is_known: bool = False) -> None:
        self._said = first  # spoken, of the text that grows
        self._held: list[str] = []
        self._repeated = 0
        self._is_known = is_known
        self.is_over = False

    def add(self, text: str) -> str:
        """Take the next text; return the text to speak, which may be empty."""
        if self._is_known:
            return self._difference(text)
        last = self._held[-1] if self._held else self._said
        if not text.startswith(last) or len(self._held) >= MAX_HELD_TEXTS:
            self.is_over = True
            return self.finish() + text
        self._held.append(text)
        if len(text) > len(last):
            self._repeated += 1
            needed = REPEATED_ONCE if self._repeated == 1 else REPEATED_TWICE if self._repeated == 2 else REPEATED_OFTEN
            if _evidence_in(last) >= needed:
                self._is_known = True
                self._held = []
                return self._difference(text)
        return ""

    def finish(self) -> str:
        """Return the texts that were held back for lack of evidence."""
        held, self._held = "".join(self._held), []
        return held

    def end(self) -> str:
        """Return the text to speak at the end of the stream: nothing broke the chain."""
        if len(self._held) > 1 and self._repeated > 1 and _evidence_in(self._held[-2]) >= REPEATED_OFTEN:
            return self._held[-1][len(self._said) :]
        return self.finish()

    def _difference(self, text: str) -> str:
        said = self._said
        if text.startswith(said):
            self._said = text
            return text[len(said) :]
        if said.startswith(text):
            return ""
        self._said = text
        same = 0
        while same < min(len(text), len(said)) and text[same] == said[same]:
            same += 1
        # A word that was corrected; else a new text begins.
        return text[same:] if 2 * same >= len(said) else text


def _evidence_in(text: str) -> int:
    """Count the different letters and digits of a text that was repeated."""
    return len({letter for letter in text.casefold() if letter.isalnum()})
