"""The limits and times of one conversation; some of them are options for users.

A field made with `option` is all that an option needs: `se-server` has it on its command line, in the environment and
in its file, and the servers and sessions of the library take it as a keyword.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from se_server.conversation.patience import doubts_of
from se_server.errors import ConfigError
from se_server.options import (
    choice,
    duration,
    flag,
    interval,
    interval_or_off,
    number,
    one_of,
    option,
    options_of,
    size,
    size_or_off,
    text,
    texts,
    verbatim,
)
from se_server.spelling import nearest
from se_server.streams.shaping import read_shape

CONVERSATIONS = "Conversations"
LIMITS = "Limits of a connection"


@dataclass(frozen=True)
class SessionSettings:
    """Limits and times of a session. The defaults are what is served and measured.

    Attributes:
        debug: print what happens, in lines that start with `[SpeechEngine]`.
        handover_s: how long a superseded handler may clean up before the next turn starts without it.
        stray_report_s: after how long a cancelled handler that still runs is reported.
        max_stray_handlers: how many cancelled handlers of one session may still run before a new turn is refused.
        max_pending_events: how many events may wait for user code; beyond it the newest is dropped and logged.
        end_timeout_s: how long user code may go on after the conversation ended.
        superseded_transcripts: what a superseded transcript that comes again gets: `ack`, an empty final, so that the
            API stops asking; `ignore`, nothing.
        retranscription: what a new transcript with the words of the turn under way, which has sent nothing yet, does:
            `supersede` it, or `adopt`: the answer goes out under the new id.
        empty_answer_text: what a turn without any text is answered with before its final; empty: the final alone.
        hold_after_s: after how long without a word one blank, not final, tells the API to wait on; None never does.
        answered_transcripts: what the newest transcript gets when it comes again although its answer was complete:
            `replay`, the same text again, at most twice; `ignore`, nothing.
        failed_transcripts: what it gets when its handler failed or timed out without an answer: `retry` runs the
            handler once more; `ignore` does not.
        finals: whether each `send_response` ends an answer, `response`, or the end of the handler, `turn`.
        settle_s: how long a transcript has to stay the newest before its handler starts.
        silence_turns: what a transcript of silence gets: `handle` runs the handler, `stay_silent` sends an answer
            without words.
        first_word_after_s: when a handler has sent nothing this long after its transcript came, a filler is spoken.
        first_word_text: the fillers, taken in turn.
        failure_text: what is spoken when a handler or its stream fails before any text of its own.
        speak_refusals: whether a model's refusal is spoken where its stream has no other text; else it is a failure.
        chunk_pace_s: how long texts of a stream are gathered into one once the answer is well ahead of speech.
        takeover: whether streams of LLM packages are read from their HTTP responses, without the packages' objects.
        shape: how the text of answers is shaped for speech, such as `plain, sentences`; None: it is not.
        turn_timeout_s: how long a turn may take from its transcript on, before its handler is cancelled.
        max_conversation_s: after how long a conversation is ended, once its answer under way has come to its end.
        idle_timeout_s: the same for a conversation without a transcript for so long.
        goodbye: the text with which these two end it; of a server the option `goodbye_text`.
        max_answer_bytes: how many bytes of UTF-8 a turn's answer may have, before it is cut and ended.
        interrupt_timeout_s: how long an `interrupted` handler may hold up the next turn before it is cancelled.
        stream_close_s: how long closing an answer's stream is waited for.
        write_high_water_bytes: unsent bytes above which an answer waits for the peer.
        write_timeout_s: how long a peer may stay above the mark before it is dropped.
        ping_interval_s: a connection quiet for this long gets a WebSocket ping.
        ping_timeout_s: how long the answer to that ping is waited for before the connection is dropped.
        first_message_timeout_s: a connection that sent no message this long after its upgrade is closed.
        max_messages_per_s: how many messages a second a connection may send for long.
        max_messages_burst: how many of them may come at once, to within 64.
        max_work_per_s: how much work a second a connection may make for long: a byte is 1, a message 512, a
            fragment 128, a decoded entry of a transcript 64. Two seconds' worth may come at once. Beyond it reading
            pauses.
        max_control_frames_per_s: how many pings and pongs a second a connection may send.
        max_message_bytes: the largest message accepted.
        max_fragments: the most fragments of one message accepted.
        close_timeout_s: how long the close handshake is waited for.
        clock: seconds that never go back, for the times of turns; a test with a virtual loop gives its `loop.time`.
    """

    HEADING: ClassVar[str] = LIMITS

    debug: bool = option(False, flag, "Print what happens in each conversation.", group=CONVERSATIONS)
    handover_s: float = option(
        0.05,
        duration,
        "How long an interrupted handler may clean up before the next turn starts without it.",
        "SECONDS",
        group=CONVERSATIONS,
    )
    stray_report_s: float = 1.0
    max_stray_handlers: int = 32
    max_pending_events: int = 64
    end_timeout_s: float = option(
        30.0, duration, "How long handlers may go on after their conversation ended.", "SECONDS", group=CONVERSATIONS
    )
    superseded_transcripts: str = option(
        "ack",
        one_of("ack", "ignore"),
        "When the API sends a superseded transcript again: `ack` sends an empty final, so that it stops asking; "
        "`ignore` sends nothing.",
        "ack|ignore",
        group=CONVERSATIONS,
        default_text="ack",
    )
    retranscription: str = option(
        "supersede",
        one_of("supersede", "adopt"),
        "When the same words come under a new id before the answer has begun: `supersede` starts again, `adopt` goes "
        "on under the new id.",
        "supersede|adopt",
        group=CONVERSATIONS,
        default_text="supersede",
    )
    empty_answer_text: str = option(
        " ",
        verbatim,
        "What to send for a turn that has said nothing, before its final; an empty text sends the final alone.",
        "TEXT",
        group=CONVERSATIONS,
        default_text="one blank",
        takes_blanks=True,
    )
    hold_after_s: float | None = option(
        3.0,
        interval_or_off,
        "When nothing was sent after this time, send one blank, which keeps the API from giving up; or `off`.",
        "SECONDS|off",
        group=CONVERSATIONS,
    )
    answered_transcripts: str = option(
        "replay",
        one_of("replay", "ignore"),
        "When the newest transcript comes again a second or more after its answer: `replay` sends the same text again, "
        "at most twice; `ignore` sends nothing.",
        "replay|ignore",
        group=CONVERSATIONS,
        default_text="replay",
    )
    failed_transcripts: str = option(
        "ignore",
        one_of("ignore", "retry"),
        "When it comes again and its handler had failed or timed out without an answer: `retry` runs it once more.",
        "ignore|retry",
        group=CONVERSATIONS,
        default_text="ignore",
    )
    finals: str = option(
        "response",
        one_of("response", "turn"),
        "What ends an answer: each `response`, as in the published SDK, or the `turn`, when its handler has ended.",
        "response|turn",
        group=CONVERSATIONS,
        default_text="response",
    )
    settle_s: float = option(
        0.0,
        duration,
        "Start a handler when no further transcript has come for this time, for users who pause within a sentence.",
        "SECONDS",
        group=CONVERSATIONS,
    )
    silence_turns: str = option(
        "handle",
        one_of("handle", "stay_silent"),
        "When the API reports that the user says nothing: `handle` runs the handler; `stay_silent` sends a blank and "
        "the final.",
        "handle|stay_silent",
        group=CONVERSATIONS,
        default_text="handle",
    )
    first_word_after_s: float | None = option(
        None,
        interval,
        "When a handler has sent nothing after this time, speak a first word in its place.",
        "SECONDS",
        group=CONVERSATIONS,
        default_text="off",
    )
    first_word_text: tuple[str, ...] = option(
        (),
        texts,
        "The first word, such as 'One moment, please.'; several are taken in turn.",
        "TEXT",
        group=CONVERSATIONS,
        repeatable=True,
    )
    failure_text: str | None = option(
        None,
        text,
        "What to speak when a handler fails before it has said anything.",
        "TEXT",
        group=CONVERSATIONS,
        default_text="nothing",
    )
    speak_refusals: bool = option(
        True,
        choice,
        "Whether a model's refusal is spoken when its stream has no other text; else it is a failure.",
        "true|false",
        group=CONVERSATIONS,
        default_text="true",
    )
    chunk_pace_s: float | None = option(
        None,
        interval_or_off,
        "Gather the texts of a stream for so long once the answer is seconds ahead of its speech.",
        "SECONDS|off",
        group=CONVERSATIONS,
        default_text="off",
    )
    takeover: bool = option(
        True,
        choice,
        "Whether streams of LLM packages are read from their HTTP responses, without the packages' objects.",
        "true|false",
        group=CONVERSATIONS,
        default_text="true",
    )
    shape: str | None = option(
        None,
        read_shape,
        "Shape answers for speech: `plain` leaves out Markdown, links, code and emoji; `sentences` or `8 words` is how "
        "much a chunk has; both with a comma.",
        "SHAPE",
        group=CONVERSATIONS,
        default_text="off",
    )
    turn_timeout_s: float | None = option(
        None,
        interval_or_off,
        "Cancel a handler that takes longer for its turn.",
        "SECONDS|off",
        group=CONVERSATIONS,
        default_text="off",
    )
    max_conversation_s: float | None = option(
        None,
        interval_or_off,
        "End a conversation of this age, after the answer under way, with the goodbye text and code 1000.",
        "SECONDS|off",
        group=CONVERSATIONS,
        default_text="off",
    )
    idle_timeout_s: float | None = option(
        None,
        interval_or_off,
        "End a conversation in which nothing was said for this long, likewise.",
        "SECONDS|off",
        group=CONVERSATIONS,
        default_text="off",
    )
    goodbye: str | None = None
    max_answer_bytes: int | None = option(
        None, size_or_off, "Cut and end a longer answer.", "SIZE|off", group=CONVERSATIONS, default_text="off"
    )
    interrupt_timeout_s: float = 1.0
    stream_close_s: float = 0.5
    write_high_water_bytes: int = 64 * 1024
    write_timeout_s: float = option(
        30.0, interval, "Drop a peer that has not read what was sent for this long.", "SECONDS"
    )
    ping_interval_s: float = option(20.0, interval, "Ping a connection that was quiet this long.", "SECONDS")
    ping_timeout_s: float = option(20.0, interval, "Drop a peer that has not answered a ping this long.", "SECONDS")
    first_message_timeout_s: float = option(
        30.0, interval, "Close a connection that sent no message this long after its upgrade.", "SECONDS"
    )
    max_messages_per_s: int = option(1000, number, "Messages a second that a connection may send for long.", "N")
    max_messages_burst: int = option(2000, number, "How many of them may come at once, to within 64.", "N")
    max_control_frames_per_s: int = option(100, number, "Pings and pongs a second that a connection may send.", "N")
    max_work_per_s: int = option(
        8_000_000,
        number,
        "Work a second that a connection may make for long, about the bytes of its messages; beyond it reading pauses.",
        "N",
        default_text="8000000",
    )
    max_message_bytes: int = option(1024 * 1024, size, "The largest message accepted.", "SIZE", default_text="1MiB")
    max_fragments: int = option(1024, number, "The most fragments of one message accepted.", "N")
    close_timeout_s: float = option(5.0, interval, "How long the close handshake is waited for.", "SECONDS")
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if (self.first_word_after_s is None) != (not self.first_word_text):
            raise ConfigError(
                "first_word_after_s and first_word_text need each other: when to speak, and what; give both or neither"
            )

    @classmethod
    def of(cls, keywords: Mapping[str, object]) -> SessionSettings:
        """Read settings that were given as keywords; None stands for the default. Warn of values that are doubtful.

        Raises:
            TypeError: a name that is not an option.
            ConfigError: a value that is not valid.
        """
        values = {}
        for name, raw in keywords.items():
            row = SESSION_OPTIONS.get(name)
            if row is None:
                raise TypeError(f"there is no option {name!r}{nearest(name, SESSION_OPTIONS)}")
            if raw is not None:
                values[name] = row.read(raw, name)
        settings = cls(**values) if values else DEFAULT_SETTINGS
        for doubt in settings.doubts():
            warnings.warn(doubt, UserWarning, stacklevel=3)
        return settings

    def doubts(self) -> list[str]:
        """Return sentences about values that are allowed, and probably a mistake."""
        return doubts_of(self.hold_after_s, self.settle_s, self.first_word_after_s, self.turn_timeout_s)

    def changed(self) -> dict[str, Any]:
        """Return the options that do not have their default, as `of` reads them."""
        found = {name: getattr(self, name) for name in SESSION_OPTIONS}
        return {name: value for name, value in found.items() if value != getattr(DEFAULT_SETTINGS, name)}


SESSION_OPTIONS = options_of(SessionSettings)
"""The options for users, by name, in the order of the fields."""

DEFAULT_SETTINGS = SessionSettings()
