"""The text inside one LLM event."""

# The text to speak of `event`, or None: nothing to speak (no text in it, reasoning, tool arguments, an unknown shape).
cpdef str text_of(object event)
