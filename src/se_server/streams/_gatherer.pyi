from typing import Any, final

@final
class Gatherer:
    """Gathers the texts of a stream into one while the answer is well ahead of its speech. Its stream makes it."""
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: a stream makes it."""
