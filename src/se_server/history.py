"""The history of a conversation in the form that an LLM's API takes: plain data, without any package.

Example:
    Each form is made from the transcript that a handler gets:

        from se_server.history import as_openai

        async def on_transcript(transcript, session):
            messages = as_openai(transcript, system="You answer on the telephone. Be brief.")
            await session.send_response(await llm.responses.create(model="gpt-4o-mini", input=messages, stream=True))

All forms end with the user, since several APIs refuse a history that does not. A user who has said nothing is worded.
The entries are new at each call, so that a change of one, such as a mark for a prompt cache, is not in the next turn's
history; the texts in them are those of the transcript, never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, overload

SILENCE = "(The user says nothing.)"
"""The words for a user who has said nothing, unless `silence_text` gives others."""

SEPARATOR = "\n"  # between the texts of one sender that an API wants as one message


class Message(Protocol):
    """One message of a transcript: a `ConversationMessage`, or any object with its two attributes."""

    @property
    def role(self) -> str:
        """The sender: `"user"`, or else the agent."""

    @property
    def content(self) -> str:
        """The text."""


def as_openai(transcript: Iterable[Message], *, system: str | None = None, silence_text: str = SILENCE) -> list[Any]:
    """Return the history as messages of OpenAI's: `[{"role": "user", "content": "Hello?"}]`.

    They are the `input` of the Responses API and the `messages` of Chat Completions. The many packages of that form
    take them, too: Mistral, Groq, Together, Cohere, Ollama, litellm, openai-agents.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the text of a first message with the role `system`.
        silence_text: stands for a user message without words ("..."), and is added as the last message when the history
            ends with the agent; empty: such messages stay as they are, and none is added.
    """
    messages = [
        {"role": "user" if by_user else "assistant", "content": text}
        for by_user, text in _spoken(transcript, silence_text)
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return messages


@overload
def as_anthropic(transcript: Iterable[Message], *, system: None = ..., silence_text: str = ...) -> list[Any]: ...


@overload
def as_anthropic(transcript: Iterable[Message], *, system: str, silence_text: str = ...) -> dict[str, Any]: ...


def as_anthropic(
    transcript: Iterable[Message], *, system: str | None = None, silence_text: str = SILENCE
) -> list[Any] | dict[str, Any]:
    """Return the history as messages of Anthropic's, which begin with the user, alternate, and end with the user.

    Anthropic takes the system text beside the messages: with `system`, the result is both keywords, to be passed on as
    `messages.create(**as_anthropic(transcript, system="Be brief."), model=..., max_tokens=500, stream=True)`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the system text; with it the result is `{"messages": [...], "system": "..."}`.
        silence_text: as for `as_openai`; it is also the first message when the agent spoke first. It cannot be empty.
    """
    messages = [
        {"role": "user" if by_user else "assistant", "content": text}
        for by_user, text in _alternating(transcript, silence_text)
    ]
    return messages if system is None else {"messages": messages, "system": system}


@overload
def as_gemini(transcript: Iterable[Message], *, system: None = ..., silence_text: str = ...) -> list[Any]: ...


@overload
def as_gemini(transcript: Iterable[Message], *, system: str, silence_text: str = ...) -> dict[str, Any]: ...


def as_gemini(
    transcript: Iterable[Message], *, system: str | None = None, silence_text: str = SILENCE
) -> list[Any] | dict[str, Any]:
    """Return the history as contents of Gemini's: `[{"role": "user", "parts": [{"text": "Hello?"}]}]`.

    They begin with the user, alternate, and end with the user. Gemini takes the system text in its configuration: with
    `system`, the result is both keywords, to be passed on as
    `generate_content_stream(**as_gemini(transcript, system="Be brief."), model=...)`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the system text; with it the result is `{"contents": [...], "config": {"system_instruction": "..."}}`.
        silence_text: as for `as_anthropic`.
    """
    contents = [
        {"role": "user" if by_user else "model", "parts": [{"text": text}]}
        for by_user, text in _alternating(transcript, silence_text)
    ]
    return contents if system is None else {"contents": contents, "config": {"system_instruction": system}}


def as_langchain(transcript: Iterable[Message], *, system: str | None = None, silence_text: str = SILENCE) -> list[Any]:
    """Return the history as messages of LangChain and LangGraph: `[("human", "Hello?")]`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the text of a first message of the kind `system`.
        silence_text: as for `as_openai`.
    """
    messages = [("human" if by_user else "ai", text) for by_user, text in _spoken(transcript, silence_text)]
    if system:
        messages.insert(0, ("system", system))
    return messages


def _spoken(transcript: Iterable[Message], silence_text: str) -> Iterator[tuple[bool, str]]:
    """Yield whether the user said it, and the text; the agent's messages without text are left out."""
    by_user = True
    is_empty = True
    for message in transcript:
        text = message.content
        if message.role == "user":
            is_empty, by_user = False, True
            yield True, silence_text if silence_text and _is_wordless(text) else text
        elif text and not text.isspace():  # a blank that kept the API waiting; Anthropic and Gemini refuse it
            is_empty, by_user = False, False
            yield False, text
    if silence_text and (is_empty or not by_user):
        yield True, silence_text


def _alternating(transcript: Iterable[Message], silence_text: str) -> Iterator[tuple[bool, str]]:
    """Yield as `_spoken` does, with the messages of one sender merged, and the user's first and last.

    Raises:
        ValueError: there are no words for a silent user.
    """
    if _is_wordless(silence_text):
        raise ValueError("silence_text has no words: this API refuses a history that does not begin and end with some")
    texts: list[str] = []
    before = True
    for by_user, text in _spoken(transcript, silence_text):
        if by_user is not before:
            yield before, SEPARATOR.join(texts) or silence_text
            texts = []
        before = by_user
        texts.append(text)
    yield before, SEPARATOR.join(texts)


def _is_wordless(text: str) -> bool:
    """Return whether a text has no letter and no digit, as those by which the API tells of silence."""
    return not any(map(str.isalnum, text))
