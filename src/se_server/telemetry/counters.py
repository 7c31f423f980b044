"""The counters of conversations.

A counter is one line of `Counters`. `setup.py` makes `_counts.pxd` of these lines, by which compiled code adds to each
as a field in C: `stats.cells.turns_started += 1`. The scoreboard, `se-ctl` and metrics go through `COUNTERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_server.telemetry._counts import Counts


class Counters(Counts):
    """The counts of conversations: integers, written by one thread.

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
    turns_retried: int  # turns whose handlers ran again because they had failed without an answer
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

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> int:
            place = _PLACES.get(name)
            if place is None:
                raise AttributeError(f"there is no counter {name}")
            return self.value(place)

        def __setattr__(self, name: str, value: int) -> None:
            place = _PLACES.get(name)
            if place is None:
                raise AttributeError(f"there is no counter {name}")
            self.put(place, value)


COUNTERS = tuple(Counters.__annotations__)
"""The names of all counters."""
_PLACES = {name: place for place, name in enumerate(COUNTERS)}
