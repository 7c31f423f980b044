from typing_extensions import disjoint_base

@disjoint_base
class Source:
    """An iterator whose events are lists of texts until it says otherwise, and which may deliver them itself."""
    @property
    def gives_texts(self) -> bool:
        """Whether the event in progress, or the last one, is a list of texts."""
