def text_of(event: object) -> str | None:
    """Return the text to speak of one LLM event, or None where there is none.

    Knows plain strings and, as dicts or as SDK objects alike, the events of the OpenAI Responses API, OpenAI Chat
    Completions, Anthropic Messages and Google Gemini. Reasoning, refusals and tool arguments are never text to speak.
    """
