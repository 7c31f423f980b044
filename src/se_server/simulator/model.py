"""The API's side of one conversation as a state machine, without I/O and without a clock.

The model decides, a driver acts. `connected`, `say`, `ping`, `close`, `replay` and `tick` return the actions to carry
out, in order; `receive` takes a message and returns its meaning. After each of these the driver asks `next_due` and
calls `tick` at that time. Every method takes the time as `now`, in seconds of any monotonic clock, so that a virtual
clock drives the model as well as a real one.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable, Iterator

from se_server.simulator import messages
from se_server.simulator.calls import Action, Ask, CallTurn, Close, Drop, Reconnect, Reset, Send
from se_server.simulator.habits import Goodbye, Habits, Malformed, Moment, Silence, TurnHabits
from se_server.simulator.response_tracker import ResponseTracker
from se_server.simulator.utterances import LAST_WORDS, SILENCES, growing_ids, wordings

GENERATION_FAILED = "Speech Engine generation failed"

_MALFORMED: dict[Malformed, str | bytes] = {
    Malformed.NO_JSON: '{"type": "user_transcript", "user_transcript": [',
    Malformed.NOT_UTF8: b'{"type": "user_transcript", "user_transcript": "\xff\xfe"}',
    Malformed.UNKNOWN_TYPE: '{"type": "vad_score", "vad_score": 0.98}',
}


class ApiModel(ResponseTracker):
    """The API's side of one conversation.

    Args:
        conversation_id: the id that `init` announces.
        habits: the API's habits; polite by default.
        ids: an iterator of increasing event ids; `growing_ids` of the conversation id by default.

    Attributes:
        is_connected: whether there is a connection at the moment.
        end_reason: the reason why the API ended the conversation on its own; empty otherwise.
    """

    def __init__(self, conversation_id: str, *, habits: Habits | None = None, ids: Iterator[int] | None = None) -> None:
        super().__init__(habits or Habits())
        self.conversation_id = conversation_id
        self.is_connected = False
        self.end_reason = ""
        self._connected_at = 0.0
        self._ids = growing_ids(conversation_id) if ids is None else ids
        self._dice = random.Random(f"{self.habits.seed}/{conversation_id}")
        self._turn_habits = TurnHabits()
        self._due: list[tuple[float, int, Callable[[float], list[Action]]]] = []
        self._order = itertools.count()  # keeps the order of equal times
        self._is_watching_idle = False
        self._silent_after: CallTurn | None = None  # the turn after which the user is going to say nothing
        self._resends = 0  # the number of the newest wait for an answer; older ones are void

    @property
    def awaits_silence(self) -> bool:
        """Whether the user stays silent at the moment, and the API is going to send a transcript of that."""
        return self._silent_after is not None and self._silent_after is self.turn and not self.is_closed

    # --- messages of the API ----------------------------------------------------------------------------------------

    def connected(self, *, now: float, repeats: bool = True) -> list[Action]:
        """Begin the conversation on a new connection, or continue it there.

        Args:
            now: the time, in seconds.
            repeats: whether a question without any answer is asked again.
        """
        self.is_connected = True
        self.last_traffic = self._connected_at = now
        self.pings_unanswered = 0
        actions: list[Action] = [Send(messages.encode("init", conversation_id=self.conversation_id))]
        self._watch_idle(now)
        turn = self.turn
        if repeats and turn is not None and turn.is_answering:
            why = "the question again, over the new connection"
            is_whole = turn.asks[-1].wording == turn.said
            actions += self._send_again(turn.asks[-1], now, why) if is_whole else self._ask(turn, turn.said, now, why)
        return actions

    def say(self, text: str, *, now: float, is_habit: bool = False) -> list[Action]:
        """Let the user speak; an incomplete answer is interrupted.

        Args:
            now: the time, in seconds.
            text: the user's words.
            is_habit: whether a habit made the user speak.
        """
        self._cut_off(now, "user")
        turn_habits = TurnHabits() if is_habit else self.habits.draw(self._dice)
        self._turn_habits = turn_habits
        turn = CallTurn(text, now, is_habit=is_habit, loses_answer=turn_habits.loses_answer)
        actions: list[Action] = []
        for kind in turn_habits.malformed:
            if kind is Malformed.BAD_ENTRY:
                self._bad_entries.add(len(self.turns))
            elif self.is_connected:
                actions.append(Send(_MALFORMED[kind], f"malformed: {kind.value}"))
        self._add(turn)
        first, *self.wordings_to_come = wordings(text, len(turn_habits.extra_id_gaps_s), turn_habits.wording)
        actions += self._ask(turn, first, now, "")
        when = now
        for gap_s in turn_habits.extra_id_gaps_s:
            when += gap_s
            self._at(when, lambda now: self._transcribe_again(turn, now))
        if turn_habits.interrupt_after_s is not None:
            self._at(now + turn_habits.interrupt_after_s, lambda now: self._interrupt(turn, now))
        self._reached(Moment.BEFORE_ANSWER, turn, now)
        return actions

    def ping(self, *, now: float) -> list[Action]:
        """Send a `ping` message, which the server has to answer with a `pong`."""
        self.pings_unanswered += 1
        self.last_traffic = now
        return [Send(messages.encode("ping"))]

    def close(self, *, now: float) -> list[Action]:
        """Let the caller hang up; messages that arrive later are discarded."""
        goodbye = self.habits.draw_goodbye(self._dice)
        actions: list[Action] = []
        if goodbye is Goodbye.LAST_WORDS:
            actions = [
                dataclasses.replace(action, why="last words", is_joined=True)
                for action in self.say(LAST_WORDS, now=now, is_habit=True)
                if isinstance(action, Send)
            ]
        self.hung_up(now=now)
        if goodbye is Goodbye.DROP:
            return [Drop("the caller hung up")]
        return [*actions, Send(messages.encode("close")), Close()]

    def hung_up(self, *, now: float) -> None:
        """Note that the caller hung up. Nothing is sent."""
        self._cut_off(now, "api")
        self._over("")

    def disconnected(self, *, now: float) -> None:
        """Note the loss of a connection that will be replaced. The current answer is cut off."""
        turn = self.turn
        if turn is not None and turn.chunks and turn.is_answering:
            turn.interrupted_at, turn.interrupted_by = now, "api"
        self.wordings_to_come.clear()
        self.is_connected = False

    def lost(self, *, now: float) -> None:
        """Note the loss of a connection that the API did not end."""
        self._cut_off(now, "server")
        self._over("")
        self.is_connected = False

    def traffic(self, *, now: float) -> None:
        """Note traffic that is not a message, such as a WebSocket ping."""
        self.last_traffic = now

    def replay(self, raw: str | bytes, *, now: float) -> list[Action]:
        """Send a recorded message of the API and update the state by its content."""
        message = messages.load(raw) if isinstance(raw, str) else ""
        self.last_traffic = now
        if isinstance(message, dict):
            kind, event_id = message.get("type"), message.get("event_id")
            if kind == "ping":
                self.pings_unanswered += 1
            elif kind == "close":
                self._cut_off(now, "api")
                self._over("")
                return [Send(raw), Close()]
            elif kind == "user_transcript" and isinstance(event_id, int):
                self._replay_transcript(raw, event_id, message.get("user_transcript"), now)
        return [Send(raw)]

    # --- timers -----------------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return the time of the next `tick`; None if only a message or the user can change the state."""
        return self._due[0][0] if self._due else None

    def tick(self, now: float) -> list[Action]:
        """Carry out everything due by `now`, in seconds."""
        actions: list[Action] = []
        while self._due and self._due[0][0] <= now:
            actions += heapq.heappop(self._due)[2](now)
        return actions

    def _heard_more(self, turn: CallTurn, now: float) -> None:
        if (
            self._turn_habits.interrupt_after_chars is not None
            and len(turn.heard) >= self._turn_habits.interrupt_after_chars
        ):
            self._at(now, lambda now: self._interrupt(turn, now))

    def _at(self, when: float, step: Callable[[float], list[Action]]) -> None:
        heapq.heappush(self._due, (when, next(self._order), step))

    def _is_asking(self, turn: CallTurn) -> bool:
        return self.is_connected and turn is self.turns[-1] and not turn.is_interrupted

    def _resend(self, turn: CallTurn, ask: Ask, token: int, now: float) -> list[Action]:
        if not self._is_asking(turn) or ask is not turn.asks[-1] or ask.responded_at is not None:
            return []
        if token != self._resends:  # the transcript was repeated since; that repetition started a new wait
            return []
        since = max(self._connected_at, ask.lost_at or 0.0)  # each connection and each lost answer begins the count
        tries = sum(at >= since for at in ask.sent_at)
        if tries < self.habits.max_tries:
            return self._send_again(ask, now, f"unanswered, try {tries + 1} of {self.habits.max_tries}")
        self._cut_off(now, "api")
        self._over(GENERATION_FAILED)
        error = messages.encode("error", message=GENERATION_FAILED)
        return [Send(error, "gave up"), Send(messages.encode("close"), "gave up"), Close(1000, GENERATION_FAILED)]

    def _transcribe_again(self, turn: CallTurn, now: float) -> list[Action]:
        if not self._is_asking(turn) or not self.wordings_to_come:
            if turn is self.turns[-1]:
                self.wordings_to_come.clear()
            return []
        self._begin_again(turn)
        return self._ask(turn, self.wordings_to_come.pop(0), now, "a further id for the same pause")

    def _stay_silent(self, turn: CallTurn, silence: Silence, now: float) -> list[Action]:
        is_due, self._silent_after = self._silent_after is turn, None
        if not is_due or not self._is_asking(turn):
            return []
        is_agent_last = silence is Silence.AGENT_LAST and bool(turn.chunks)
        text = "" if is_agent_last else SILENCES.get(silence, "...")
        silent = CallTurn(text, now, is_habit=True, is_silence=True, is_agent_last=is_agent_last)
        self._turn_habits = TurnHabits()
        self._add(silent)
        return self._ask(silent, text, now, "the user says nothing")

    def _interrupt(self, turn: CallTurn, now: float) -> list[Action]:
        if not self._is_asking(turn) or not turn.is_answering:
            return []
        return self.say(self.habits.interruption, now=now, is_habit=True)

    def _resend_older(self, turn: CallTurn, now: float) -> list[Action]:
        if not self._is_asking(turn):
            return []
        older = turn.asks[0] if len(turn.asks) > 1 else self.turns[-2].asks[-1] if len(self.turns) > 1 else None
        # In no field report does an id return on a connection other than its own.
        if older is None or not older.message or not older.sent_at or older.sent_at[-1] < self._connected_at:
            return []
        return self._send_again(older, now, f"the older id {older.event_id} again")

    def _break(self, turn: CallTurn, now: float) -> list[Action]:
        if not self.is_connected or turn is not self.turns[-1]:
            return []
        self.disconnected(now=now)
        actions = self._last_error()
        actions.append(Reset("a TCP reset") if self.habits.reset else Drop("a lost connection"))
        if self._turn_habits.reconnect:
            return [*actions, Reconnect(self.habits.reconnect_after_s, "the same conversation again")]
        self._cut_off(now, "api")
        self._over("the API's side reset the connection")
        return actions

    def _idle(self, now: float) -> list[Action]:
        self._is_watching_idle = False
        if not self.is_connected or self.habits.idle_drop_s is None:
            return []
        if now < self.last_traffic + self.habits.idle_drop_s:
            self._watch_idle(now)
            return []
        self._cut_off(now, "api")
        self.is_connected = False
        reason = f"nothing went over the connection for {self.habits.idle_drop_s:g} s, so it was dropped"
        self._over(reason)
        return [*self._last_error(), Drop(reason)]

    def _last_error(self) -> list[Action]:
        error = self.habits.drop_error
        return [Send(messages.encode("error", message=error), "an error before the drop")] if error else []

    # --- parts ------------------------------------------------------------------------------------------------------

    def _add(self, turn: CallTurn) -> None:
        self.turns.append(turn)
        if len(self.turns) > 3:
            for old in self.turns[-4].asks:
                old.message = ""  # each message holds the whole history; this one will not be repeated

    def _ask(self, turn: CallTurn, wording: str, now: float, why: str) -> list[Action]:
        """Send the transcript with the turn's words under a new id."""
        ask = Ask(next(self._ids), wording, "", [])
        turn.asks.append(ask)
        self._asks[ask.event_id] = (turn, ask)
        ask.message = messages.transcript(self._entries(), ask.event_id)
        return self._send_again(ask, now, why)

    def _send_again(self, ask: Ask, now: float, why: str) -> list[Action]:
        if not self.is_connected:
            return []  # `connected` sends it
        ask.sent_at.append(now)
        self.last_traffic = now
        turn = self._asks[ask.event_id][0]
        if ask is turn.asks[-1]:
            self._await_answer(turn, ask, now)
        return [Send(ask.message, why)]

    def _await_answer(self, turn: CallTurn, ask: Ask, now: float) -> None:
        if self.habits.resend_after_s is not None:
            self._resends += 1
            token = self._resends
            self._at(now + self.habits.resend_after_s, lambda now: self._resend(turn, ask, token, now))

    def _replay_transcript(self, raw: str | bytes, event_id: int, entries: object, now: float) -> None:
        known = self._asks.get(event_id)
        if known is not None:
            known[1].sent_at.append(now)
            return
        words = [
            entry["content"]
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict) and entry.get("role") == "user" and isinstance(entry.get("content"), str)
        ]
        last = entries[-1] if isinstance(entries, list) and entries else None
        is_agent_last = isinstance(last, dict) and last.get("role") == "agent"
        text = words[-1] if words and not is_agent_last else ""
        turn = self.turn
        spoken = sum(not turn.is_agent_last for turn in self.turns)
        if turn is None or len(words) != spoken or is_agent_last != turn.is_agent_last:
            self._cut_off(now, "user")
            is_silence = is_agent_last or text in SILENCES.values()
            turn = CallTurn(text, now, is_silence=is_silence, is_agent_last=is_agent_last)
            self.turns.append(turn)
        else:  # a further id for the same pause
            self._begin_again(turn)
            turn.said = text
        ask = Ask(event_id, text, raw if isinstance(raw, str) else "", [now])
        turn.asks.append(ask)
        self._asks[event_id] = (turn, ask)

    def _reached(self, moment: Moment, turn: CallTurn, now: float) -> None:
        if turn.is_habit:
            return
        if self._turn_habits.resend_older is moment:
            self._at(now, lambda now: self._resend_older(turn, now))
        if self._turn_habits.reset is moment:
            self._at(now, lambda now: self._break(turn, now))
        silence = self._turn_habits.silence
        if moment is Moment.AFTER_ANSWER and silence is not None:
            self._silent_after = turn
            self._at(now + self.habits.silence_after_s, lambda now: self._stay_silent(turn, silence, now))

    def _over(self, reason: str) -> None:
        self.is_closed = True
        self.end_reason = self.end_reason or reason
        self._due.clear()

    def _watch_idle(self, now: float) -> None:
        if self.habits.idle_drop_s is not None and not self._is_watching_idle:
            self._is_watching_idle = True
            self._at(max(now, self.last_traffic + self.habits.idle_drop_s), self._idle)
