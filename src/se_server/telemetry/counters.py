"""What conversations count; compiled, since every turn counts, its fields stand in `_counters.pxd`."""

from __future__ import annotations


class Counters:
    """Where conversations count what they do. Plain integers, written by one thread.

    Attributes:
        sessions_opened, sessions_closed: conversations; their difference is live now.
        turns_started, turns_answered, turns_superseded, turns_failed: what became of turns.
        turns_ended: started turns whose handlers have ended, strays included; the rest of the started ones runs now.
        transcripts_repeated: transcripts sent again while their turn was under way; skipped.
        transcripts_answered: transcripts sent again after their turn was answered; skipped.
        transcripts_superseded: transcripts sent again after their turn was superseded; answered with an empty final,
            or ignored.
        transcripts_adopted: transcripts of the same words, whose turn went on instead of starting anew.
        turns_timed_out: turns that took too long; among the failed ones.
        answers_too_long: answers that were cut; their turns are among the failed ones.
        first_words_sent, failure_texts_sent: texts that the server spoke in a handler's place.
        chunks_sent: `agent_response` messages that carried text.
        messages_received: whole messages of any kind.
        message_errors: messages, or transcript entries, that could not be read.
        handler_errors: exceptions that user code let out.
        stray_handlers: handlers that went on after they were cancelled, ever.
        late_texts: answers dropped because their turn was superseded.
        write_timeouts: peers dropped because they did not read.
    """

    def __init__(self) -> None:
        self.sessions_opened = 0
        self.sessions_closed = 0
        self.turns_started = 0
        self.turns_answered = 0
        self.turns_superseded = 0
        self.turns_failed = 0
        self.turns_ended = 0
        self.transcripts_repeated = 0
        self.transcripts_answered = 0
        self.transcripts_superseded = 0
        self.transcripts_adopted = 0
        self.turns_timed_out = 0
        self.answers_too_long = 0
        self.first_words_sent = 0
        self.failure_texts_sent = 0
        self.chunks_sent = 0
        self.messages_received = 0
        self.message_errors = 0
        self.handler_errors = 0
        self.stray_handlers = 0
        self.late_texts = 0
        self.write_timeouts = 0


COUNTERS = tuple(name for name in vars(Counters) if not name.startswith("_"))
"""The names of all counters."""
