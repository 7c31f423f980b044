from typing import final

@final
class Shaper:
    """Shapes the text of one answer for speech, as it comes; any cutting of the text gives the same speech.

    Args:
        shape: `plain` leaves out marks; `sentences` or `8 words` is how much a chunk has; both with a comma.

    Raises:
        ValueError: there is no such shape.
    """
    def __new__(cls, shape: str | bool | None = "plain") -> Shaper: ...
    @property
    def plain(self) -> bool:
        """Whether marks are left out."""
    @property
    def by(self) -> int:
        """The words of a chunk; -1: a chunk is a sentence; 0: chunks are as they come."""
    def feed(self, text: str) -> list[str]:
        """Return the chunks that this piece of the answer makes whole."""
    def is_hiding(self) -> bool:
        """Return whether the text so far ends behind a tag such as <think> that was not closed. Before `finish`."""
    def finish(self) -> list[str]:
        """Return the rest, at the end of the answer. Nothing may be fed after that."""
