# cython: binding=True
"""The counters of conversations; compiled, since every turn counts.

A counter is one line of `Counters`. `setup.py` makes `counters.pxd` of these lines, which gives each a field in C; the
scoreboard, `se-ctl` and metrics go through `COUNTERS`.
"""

from __future__ import annotations

from se_server.telemetry._meters import Meters
from se_server.telemetry._ring import Ring


class Counters:
    """The counts of conversations: plain integers, written by one thread.

    A turn is started once, and is then answered, failed or superseded, or ends with its conversation.

    Attributes:
        meters: the figures of metrics, counted beside these.
        ring: the events of turns, for the observer; None without one.
    """

    sessions_opened: int  # conversations
    sessions_closed: int  # those that have ended; the difference is live now
    turns_started: int  # turns whose handlers have started
    turns_answered: int  # turns whose handlers ended without an error
    turns_superseded: int  # turns that a newer transcript ended
    turns_failed: int  # turns whose handlers raised, or that the server cut off
    turns_ended: int  # started turns whose handlers have ended, strays included; the other started ones run now
    transcripts_repeated: int  # transcripts sent again while their turn was under way; skipped
    answers_replayed: int  # answers sent again because they were lost: their transcripts came again
    turns_retried: int  # turns whose handlers ran again because they had failed without text
    answers_empty: int  # turns that ended without any text
    blanks_sent: int  # blanks sent because a handler had sent nothing for long
    silences: int  # transcripts of silence that were answered without a handler
    transcripts_answered: int  # transcripts sent again after their turn was answered; skipped
    transcripts_superseded: int  # transcripts sent again after their turn was superseded
    transcripts_adopted: int  # transcripts of the same words, whose turn went on under the new id
    turns_timed_out: int  # turns that took too long; among the failed ones
    answers_too_long: int  # answers that were cut; their turns are among the failed ones
    first_words_sent: int  # texts of the first-word guard
    failure_texts_sent: int  # texts sent because a handler failed
    chunks_sent: int  # `agent_response` messages that carried text
    messages_received: int  # whole messages of any kind
    message_errors: int  # messages, or transcript entries, that could not be read
    handler_errors: int  # exceptions that user code raised
    streams_left: int  # streams that did not end when they were closed and cancelled, and were left to themselves
    stray_handlers: int  # handlers that went on after they were cancelled
    late_texts: int  # answers dropped because their turn was superseded
    write_timeouts: int  # peers dropped because they did not read

    def __init__(self, meters: Meters | None = None, ring: Ring | None = None) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        self.meters = Meters() if meters is None else meters
        self.ring = ring


# Compiled, the fields are descriptors of the class; uncompiled, they are annotations only.
COUNTERS = tuple(
    getattr(Counters, "__annotations__", None)
    or [name for name in vars(Counters) if name[0] != "_" and name not in ("meters", "ring")]
)
"""The names of all counters."""
