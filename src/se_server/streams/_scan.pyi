from typing import Final, Literal, final

MAX_EVENT_BYTES: Final[int]
"""The largest event, line or JSON value that is read, unless a `Scanner` sets another limit."""

MAX_DEPTH: Final[int]
"""How many brackets and braces may be open at a time in one event."""

MAX_MESSAGE_CHARS: Final[int]
"""A `Failure.message` is cut after this many characters."""

MAX_KEYS: Final[int]
"""An `Unknown.keys` names at most so many."""

MAX_KEY_CHARS: Final[int]
"""A type, a key or a code is cut after this many characters."""

@final
class Refusal:
    """A part of the model's refusal: to speak only if the stream gives no other text."""

    def __new__(cls, text: str) -> Refusal: ...
    @property
    def text(self) -> str:
        """The part, as a text would be given."""

@final
class Failure:
    """The end of an answer that is none: for the caller to raise."""

    def __new__(cls, kind: str, message: str, code: str | None = None) -> Failure: ...
    @property
    def kind(self) -> Literal["error", "incomplete", "blocked", "malformed"]:
        """`error`: the provider failed; `incomplete`: it stopped early; `blocked`: a filter held the whole answer back;
        `malformed`: the bytes are not a stream of events, and nothing is read any more."""

    @property
    def message(self) -> str:
        """The provider's own message; of `malformed`, what is wrong with the bytes."""

    @property
    def code(self) -> str | None:
        """The provider's code, status or type of the failure."""

@final
class Unknown:
    """An event of no API that the scanner knows."""

    def __new__(cls, type: str | None, keys: tuple[str, ...]) -> Unknown: ...
    @property
    def type(self) -> str | None:
        """The event's `type`, None if it has none."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the event's first members."""

@final
class Usage:
    """The tokens of one answer; None where the stream did not count them."""

    def __new__(cls, input_tokens: int | None = None, output_tokens: int | None = None) -> Usage: ...
    @property
    def input_tokens(self) -> int | None:
        """Tokens that the model read, cached or not."""

    @property
    def output_tokens(self) -> int | None:
        """Tokens that the model wrote, reasoning included."""

@final
class Scanner:
    """The texts in one HTTP response of an LLM provider, from pieces of its body cut anywhere.

    Knows OpenAI Chat Completions (and those who speak it: Azure, groq, Together, Mistral) and Responses, Anthropic
    Messages, Google Gemini, Cohere v2 and Ollama. Reasoning, tool calls, pings and repetitions give nothing.

    Args:
        kind: `sse` for server-sent events; `ndjson` for JSON objects one after another, one a line or in an array; None
            to tell by the first byte.
        max_event_bytes: the largest event, line or JSON value; a larger one is a `malformed` failure.

    Raises:
        ValueError: an argument is none of these.
    """

    def __new__(cls, kind: Literal["sse", "ndjson"] | None = None, *, max_event_bytes: int = 16777216) -> Scanner: ...
    @property
    def kind(self) -> Literal["sse", "ndjson"] | None:
        """The framing; None until it is known."""

    @property
    def done(self) -> bool:
        """Whether the provider said that the answer is complete; a body that ends before that was cut."""

    @property
    def usage(self) -> Usage | None:
        """The tokens counted so far, None if the stream did not count any."""

    @property
    def events(self) -> int:
        """How many events were read, silent ones included; comments and `[DONE]` are none."""

    def feed(self, piece: str | bytes | bytearray | memoryview) -> list[str | Refusal | Failure | Unknown]:
        """Read a piece of the body; return what its events say, in order.

        A text is a well-formed, non-empty `str`: a character cut in two deltas is given whole with the second. After
        `[DONE]` and after a `malformed` failure nothing more is read.

        Raises:
            ValueError: `finish` was called before.
        """

    def feed_line(self, line: str | bytes | bytearray | memoryview) -> list[str | Refusal | Failure | Unknown]:
        """Read one line, with its line end or without, as iterators of lines give it; else as `feed`."""

    def finish(self) -> list[str | Refusal | Failure | Unknown]:
        """Return what the body's end leaves: an event without its blank line, or the failure of one that was cut.

        The second call returns an empty list.
        """
