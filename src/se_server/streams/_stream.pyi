from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, final

from se_server.protocol.turn import Turn
from se_server.streams._sink import Sink
from se_server.telemetry._clock import Clock

@final
class Stream(Awaitable[None]):
    """The stream of one answer. `open_stream` makes it; the task that awaits `pump` awaits `aclose`, too."""
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: `open_stream` makes them."""
    def read_by(
        self,
        *,
        text: Callable[[Any], str | None] | None = None,
        nodes: Iterable[str] | None = None,
        speak_refusals: bool = True,
    ) -> None:
        """Set how the stream's events are read, before it is pumped.

        Args:
            text: returns the text of an event, None for nothing to speak; in place of all other rules.
            nodes: the LangGraph nodes whose messages are spoken; None: all.
            speak_refusals: whether a refusal is spoken where the stream has no other text; else it is a failure.
        """
    def gather(self, pace_s: float) -> None:
        """Gather the texts of `pace_s` into one while the answer is well ahead of speech; 0: never."""
    def shape(self, shape: str | bool | None) -> None:
        """Shape the text before it is put, as `Shaper` does; None or False: not at all.

        Raises:
            ValueError: there is no such shape.
        """
    def pump(self, sink: Sink, turn: Turn, clock: Clock) -> Stream:
        """Return an awaitable that sends the stream's texts as the answer of a turn.

        It ends when the iterator ends, when the turn is no longer open or when the sink is closed. An exception of the
        iterator passes through after the text before it was written, and so do `AnswerTooLong` at the turn's limit,
        `StreamFailed` where the provider reported a failure, and `UnknownStreamError` where events gave no text.
        The last texts stay in the sink unflushed, so that the final can leave with them.

        Args:
            sink: receives the messages.
            turn: the turn they belong to; its id is read at each write, since a turn may be adopted.
            clock: gives the time for the turn.
        """
    def doubt(self) -> tuple[bool, str, str] | None:
        """Return what should be reported of a stream that has ended without an error, None for nothing.

        Returns:
            Whether it is surely a mistake, its kind (the type of an event, or a name), and the sentence: events beside
            the text were not spoken, `nodes` matched no message, or the stream gave nothing.
        """
    @property
    def is_over(self) -> bool:
        """Whether nothing is left to close: a generator ran to its end, as most do."""
    def aclose(self, timeout_s: float) -> Coroutine[Any, Any, int]:
        """Close the stream within `timeout_s`; errors of closing are logged.

        Returns:
            How much of it did not end, and was left to itself.
        """
    def __await__(self) -> Iterator[Any]: ...  # type: ignore[override]
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def send(self, value: object) -> Any:
        """Run to the next suspension, as a coroutine does."""
    def throw(self, kind: BaseException | type[BaseException], value: object = ..., traceback: object = ...) -> Any:
        """Raise an exception at the suspension, as a coroutine does."""
    def close(self) -> None:
        """Close the awaitable in progress, as `close` of a coroutine does."""

def open_stream(response: object, close_s: float = 0.5, takeover: bool = True) -> Stream:
    """Return the stream of an answer.

    Args:
        response: an async iterable or iterable of `str` or LLM events, an awaitable or a context manager of one, a
            result of an LLM package, or an HTTP response.
        close_s: the time that an event in progress gets to end when it is cancelled.
        takeover: whether a package's stream may be read from its HTTP response, without the package's objects.

    Raises:
        TypeError: `response` is nothing of this; the text says what is accepted. It is closed.
    """
