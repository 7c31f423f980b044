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

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, overload

from se_server._history import entries, is_wordless

SILENCE = "(The user says nothing.)"
"""The words for a user who has said nothing, unless `silence_text` gives others."""

MESSAGES, PARTS, PAIRS = range(3)  # the forms of `entries`


class Message(Protocol):
    """One message of a transcript: a `ConversationMessage`, or any object with its two attributes.

    A dict with these two keys is taken, too, and so are other names of roles: `assistant`, `ai`, `model` for the agent,
    `human` for the user. A message of any other role is a ValueError.
    """

    @property
    def role(self) -> str:
        """The sender: `"user"`, or else the agent."""

    @property
    def content(self) -> str:
        """The text."""


def as_openai(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str | None = None, silence_text: str | None = SILENCE
) -> list[Any]:
    """Return the history as messages of OpenAI's: `[{"role": "user", "content": "Hello?"}]`.

    They are the `input` of the Responses API and the `messages` of Chat Completions. The many packages of that form
    take them, too: Mistral, Groq, Together, Cohere, Ollama, litellm, openai-agents.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the text of a first message with the role `system`; blank or None: there is none.
        silence_text: stands for a user message without words ("..."), and is added as the last message when the history
            ends with the agent; empty or None: such messages stay as they are, and none is added.
    """
    messages = entries(transcript, "user", "assistant", _text("silence_text", silence_text), MESSAGES, False)
    if _text("system", system):
        messages.insert(0, {"role": "system", "content": system})
    return messages


@overload
def as_anthropic(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: None = ..., silence_text: str | None = ...
) -> list[Any]: ...


@overload
def as_anthropic(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str, silence_text: str | None = ...
) -> dict[str, Any]: ...


def as_anthropic(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str | None = None, silence_text: str | None = SILENCE
) -> list[Any] | dict[str, Any]:
    """Return the history as messages of Anthropic's, which begin with the user, alternate, and end with the user.

    Anthropic takes the system text beside the messages: with `system`, the result is both keywords, to be passed on as
    `messages.create(**as_anthropic(transcript, system="Be brief."), model=..., max_tokens=500, stream=True)`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the system text; with it the result is `{"messages": [...], "system": "..."}`, without the
            latter if it is blank.
        silence_text: as for `as_openai`; it is also the first message when the agent spoke first. It has words.
    """
    messages = _alternating(transcript, "assistant", silence_text, MESSAGES)
    if system is None:
        return messages
    return {"messages": messages, "system": system} if _text("system", system) else {"messages": messages}


@overload
def as_gemini(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: None = ..., silence_text: str | None = ...
) -> list[Any]: ...


@overload
def as_gemini(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str, silence_text: str | None = ...
) -> dict[str, Any]: ...


def as_gemini(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str | None = None, silence_text: str | None = SILENCE
) -> list[Any] | dict[str, Any]:
    """Return the history as contents of Gemini's: `[{"role": "user", "parts": [{"text": "Hello?"}]}]`.

    They begin with the user, alternate, and end with the user. Gemini takes the system text in its configuration: with
    `system`, the result is both keywords, to be passed on as
    `generate_content_stream(**as_gemini(transcript, system="Be brief."), model=...)`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the system text; with it the result is `{"contents": [...], "config": {"system_instruction": "..."}}`,
            without the latter if it is blank.
        silence_text: as for `as_anthropic`.
    """
    contents = _alternating(transcript, "model", silence_text, PARTS)
    if system is None:
        return contents
    if not _text("system", system):
        return {"contents": contents}
    return {"contents": contents, "config": {"system_instruction": system}}


def as_langchain(
    transcript: Iterable[Message | Mapping[str, Any]], *, system: str | None = None, silence_text: str | None = SILENCE
) -> list[Any]:
    """Return the history as messages of LangChain and LangGraph: `[("human", "Hello?")]`.

    Args:
        transcript: the messages that `on_transcript` got.
        system: the text of a first message of the kind `system`.
        silence_text: as for `as_openai`.
    """
    messages = entries(transcript, "human", "ai", _text("silence_text", silence_text), PAIRS, False)
    if _text("system", system):
        messages.insert(0, ("system", system))
    return messages


def _alternating(
    transcript: Iterable[Message | Mapping[str, Any]], agent: str, silence_text: str | None, form: int
) -> list[Any]:
    """Return the entries with the texts of one sender merged, and the user's first and last.

    Raises:
        ValueError: there are no words for a silent user.
    """
    words = _text("silence_text", silence_text)
    if is_wordless(words):
        raise ValueError("silence_text has no words: this API refuses a history that does not begin and end with some")
    return entries(transcript, "user", agent, words, form, True)


def _text(name: str, value: str | None) -> str:
    """Return a text, empty for None and for blanks.

    Raises:
        TypeError: it is no text.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} takes a text, not {value!r}")
    return value if value and not value.isspace() else ""
