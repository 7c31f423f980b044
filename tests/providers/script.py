"""The answer a fake provider gives, described once for all APIs: texts, usage, pace, cutting and failures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

Json = dict[str, Any]
Finish = Literal["stop", "length", "content_filter", "tool"]
ApiFailure = Literal["error", "nested_error", "failed", "incomplete"]
FailureKind = Literal[ApiFailure, "drop", "reset", "end", "stall"]

# A tokenizer's habits without its tables: a word takes its leading space along, and every other sign stands alone.
_TOKEN = re.compile(r" ?\w{1,12}|\s+|.", re.DOTALL)


def tokens_of(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """Split a text into pieces of a token's size; a tuple is already split."""
    return tuple(_TOKEN.findall(text)) if isinstance(text, str) else tuple(text)


@dataclass(frozen=True)
class Tool:
    """One tool call: its function's name and its arguments as JSON text, streamed in pieces of a token's size."""

    name: str = "get_weather"
    arguments: str = '{"city": "Zürich", "unit": "celsius"}'
    id: str = "call_0001"


@dataclass(frozen=True)
class Failure:
    """The end of a stream that goes wrong after `after_tokens` tokens, whatever their kind.

    Kinds: `error` is the API's own error event or object; `nested_error`, `failed` and `incomplete` are other forms of
    the Responses API (`error` elsewhere). `drop` closes the connection inside the body, `reset` sends a TCP reset,
    `end` ends the body without the closing events, and `stall` sends nothing more and keeps the connection.
    """

    after_tokens: int = 0
    kind: FailureKind = "error"
    message: str = "The server had an error while processing your request. Sorry about that!"

    @property
    def is_told(self) -> bool:
        """Whether the API tells it inside the stream; if not, it is a failure of the connection."""
        return self.kind in get_args(ApiFailure)


@dataclass(frozen=True)
class Script:
    """One scripted answer. It is hashable, and the bytes made from it are kept: answers of one script share them.

    Attributes:
        text: The answer; a tuple gives the texts of the deltas, a string is split at words.
        reasoning: Thinking before the answer, split likewise.
        tools: Tool calls after the text.
        refusal: A refusal instead of the text. APIs without refusals (all but OpenAI's) give it as text, and Anthropic
            ends it with the stop reason `refusal`.
        finish: Why the answer ends; None: `tool` with tools, else `stop`.
        input_tokens: The prompt's tokens in the usage.
        choices: Answers side by side (`n`), in the chat APIs of OpenAI's form: each text but the first is marked with
            its number.
        events: Raw events (dicts) instead of all that: the API only frames them.
        status: The HTTP status; from 400 on the API's own error body is the answer. 0: the connection ends without one.
        message: The error's message, where the status is one; empty: the API's usual one.
        retry_after_s: The `retry-after` header of an error status.
        headers_after_s: Wait before the response's head.
        first_token_s: Wait between the head and the first token.
        tokens_per_s: The pace from the first token on; None: one event for each turn of the event loop.
        hold_after: After that number of tokens nothing comes until the test calls `go_on()` of the request.
        ping_every_s: Pings or comments in pauses, in the API's own form.
        failure: How the stream goes wrong.
        cut_bytes: Smallest and largest piece the body is cut into, at positions drawn from `seed`; None: at events.
        crlf: Lines end in CRLF; None: as the API does it.
        ascii: JSON escapes everything that is not ASCII; None: only halves of surrogate pairs.
        gzip: The body is compressed, flushed after each event, for clients that accept it.
    """

    text: str | tuple[str, ...] = "Good morning! It is 21 °C in Zürich today 🙂. Anything else?"
    reasoning: str | tuple[str, ...] = ""
    tools: tuple[Tool, ...] = ()
    refusal: str | tuple[str, ...] = ""
    finish: Finish | None = None
    input_tokens: int = 25
    choices: int = 1
    events: tuple[str, ...] | None = None
    status: int = 200
    message: str = ""
    retry_after_s: float | None = None
    headers_after_s: float = 0.0
    first_token_s: float = 0.0
    tokens_per_s: float | None = None
    hold_after: int | None = None
    ping_every_s: float | None = None
    failure: Failure | None = None
    cut_bytes: tuple[int, int] | None = None
    seed: int = 0
    crlf: bool | None = None
    ascii: bool | None = None
    gzip: bool = False

    @classmethod
    def of_events(cls, events: Any, **rest: Any) -> Script:
        """Return a script whose stream is `events`, JSON-able dicts in the API's form, and nothing else."""
        return cls(events=tuple(json.dumps(event) for event in events), **rest)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Script:
        """Return the script that JSON describes: the attributes by name; `events` is a list of objects.

        Raises:
            ValueError: an attribute has no such name.
        """
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"a script has no {', '.join(unknown)}")
        made: Json = {name: tuple(entry) if isinstance(entry, list) else entry for name, entry in value.items()}
        if made.get("tools"):
            made["tools"] = tuple(Tool(**tool) for tool in made["tools"])
        if made.get("failure"):
            made["failure"] = Failure(**made["failure"])
        if made.get("events") is not None:
            made["events"] = tuple(json.dumps(event) for event in made["events"])
        return cls(**made)

    def but(self, **changes: Any) -> Script:
        """Return the same script with some attributes changed."""
        return replace(self, **changes)

    @cached_property
    def text_tokens(self) -> tuple[str, ...]:
        return tokens_of(self.text)

    @cached_property
    def reasoning_tokens(self) -> tuple[str, ...]:
        return tokens_of(self.reasoning)

    @cached_property
    def refusal_tokens(self) -> tuple[str, ...]:
        return tokens_of(self.refusal)

    @cached_property
    def spoken_tokens(self) -> tuple[str, ...]:
        """The text's tokens, or the refusal's where the API has no field of its own for refusals."""
        return self.refusal_tokens or self.text_tokens

    @property
    def whole_text(self) -> str:
        return "".join(self.text_tokens)

    @property
    def whole_reasoning(self) -> str:
        return "".join(self.reasoning_tokens)

    @property
    def whole_refusal(self) -> str:
        return "".join(self.refusal_tokens)

    @property
    def spoken(self) -> str:
        """The words a caller is to hear."""
        return "".join(self.spoken_tokens)

    @property
    def finished_by(self) -> Finish:
        return self.finish or ("tool" if self.tools else "stop")

    @cached_property
    def output_tokens(self) -> int:
        """Tokens that the whole answer has, those of reasoning and tool arguments included."""
        tools = sum(len(tokens_of(tool.arguments)) for tool in self.tools)
        return len(self.reasoning_tokens) + len(self.spoken_tokens) + tools
