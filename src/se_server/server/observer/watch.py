"""Watches the rings of all workers: conversations, slow turns, and the exemplars of metrics. Everything is bounded."""

from __future__ import annotations

import bisect
import heapq
import time
from collections import deque
from collections.abc import Mapping, Sequence
from mmap import mmap
from typing import TYPE_CHECKING, Any

from se_server.server.observer._timelines import PART_NAMES, Conversation, Timelines, lost_in
from se_server.server.observer.giving_way import give_way, in_pieces
from se_server.server.observer.recorder import Recorder
from se_server.server.observer.rows import conversation_row, detail_of, key_of, turn_row
from se_server.server.shared.scoreboard import Scoreboard
from se_server.telemetry._meters import Meters
from se_server.telemetry.families import Distribution, Exemplar

if TYPE_CHECKING:
    from se_server.server.observer._timelines import Turn
    from se_server.server.observer.spans import TurnExporter

READ_S = 0.1
"""The interval of reading: a ring holds the events of seconds, even at thousands of turns a second."""
KEPT_CONVERSATIONS = 2_000
KEPT_BYTES = 16 * 1024 * 1024
"""Conversations that have ended, and the bytes of their events, that are kept."""
KEPT_SLOW = 200
MARKS = 30
"""Intervals of which the means are made: five minutes."""
SLOW_S = 3600.0
"""Turns that ended longer ago are no candidates for the slowest."""
MAX_ROWS = 200
TURNS = 15
"""Turns between two offers of the core to a worker."""

_BOUNDS = Distribution.of("first_text", Meters().cells()).bounds


class Watch:
    """Reads the rings, and keeps what an operator may ask for.

    Args:
        board: the scoreboard with the rings.
        recorder, exporter: see there.

    Attributes:
        timelines: the conversations that are open.
        recorder: keeps texts, and writes recordings; None without one.
    """

    def __init__(
        self, board: Scoreboard, recorder: Recorder | None = None, exporter: TurnExporter | None = None
    ) -> None:
        assert board.rings is not None
        self._board = board
        self.recorder = recorder
        self._exporter = exporter
        self._rings = board.rings
        self._rings.begin_reading()
        self.timelines = Timelines()
        self._ended: deque[Conversation] = deque()
        self._ended_bytes = 0
        self._begun: set[int] = set()  # the rings that were read
        # A heap: the fastest first. The number breaks ties, since turns cannot be compared.
        self._slow: list[tuple[float, int, Conversation, Turn]] = []
        self._seen = 0
        self._parts_s = [0.0] * len(PART_NAMES)
        self._parts_of = 0
        self._marks: deque[tuple[list[float], int]] = deque([([0.0] * len(PART_NAMES), 0)], maxlen=MARKS + 1)
        self._exemplars: dict[str, list[Exemplar | None]] = {
            name: [None] * (len(_BOUNDS) + 1) for name in ("first_text", "first_filler")
        }

    def poll(self) -> None:
        """Read what the workers have written, and show the supervisor that this process runs."""
        self._board.observer_beat_ns = time.monotonic_ns()
        for index in range(self._board.slots_in_use):
            self._read(index, self._rings.memory(index), self._rings.tape(index))
        for number, ring, tape in self._rings.of_earlier_supervisors():
            self._read(number, ring, tape)
        self._rings.forget_ended(self.timelines.pid_of)
        if self.recorder is not None:
            self.recorder.work()
        while len(self._ended) > KEPT_CONVERSATIONS or self._ended_bytes > KEPT_BYTES:
            gone = self._ended.popleft()
            self._ended_bytes -= gone.size
            if self.recorder is not None:
                self.recorder.texts.drop((gone.pid, gone.number))

    def _read(self, number: int, ring: mmap, tape: mmap | None) -> None:
        """Read what a worker has written to its ring and to its tape."""
        is_first = number not in self._begun
        self._begun.add(number)
        turns, ended = self.timelines.read(number, ring)
        if is_first and self.recorder is not None:  # an earlier observer may have read of them
            gone = self.recorder.forget_again([*self.timelines.live.values(), *ended])
            for conversation in gone:
                conversation.forget()
            ended = [one for one in ended if one not in gone]
            turns = [(one, turn) for one, turn in turns if one not in gone]
        give_way()
        for conversation, turn in in_pieces(turns, TURNS):
            self._take(conversation, turn)
        for conversation in ended:
            self._ended.append(conversation)
            self._ended_bytes += conversation.size
        if self.recorder is not None:
            self.recorder.read(number, tape, self.timelines.pid_of(number))
            self.recorder.take(turns, ended)
        if self._exporter is not None:
            self._exporter.take(turns, ended)

    def _take(self, conversation: Conversation, turn: Turn) -> None:
        _, _, _, ended_us, first_s, parts, _, is_filler, _ = turn
        if first_s is None or parts is None:
            return
        self._seen += 1
        self._parts_of += 1
        self._parts_s = [total + part for total, part in zip(self._parts_s, parts, strict=True)]
        if len(self._slow) < KEPT_SLOW or first_s > self._slow[0][0]:
            heapq.heappush(self._slow, (first_s, self._seen, conversation, turn))
            if len(self._slow) > KEPT_SLOW:
                heapq.heappop(self._slow)
        if conversation.name is not None:
            place = bisect.bisect_left(_BOUNDS, first_s)
            exemplar = Exemplar(conversation.name, first_s, round(ended_us / 1e6 + _wall_s(), 3))
            self._exemplars["first_filler" if is_filler else "first_text"][place] = exemplar

    def mark(self) -> None:
        """Begin another interval of the means; called as often as the history gets a sample."""
        self._marks.append((self._parts_s, self._parts_of))

    def mean_parts(self) -> dict[str, float] | None:
        """Return the means of the parts of the time to first text, of the last intervals; None without turns."""
        before, count_before = self._marks[0]
        count = self._parts_of - count_before
        if not count:
            return None
        sums = (late - early for late, early in zip(self._parts_s, before, strict=True))
        return {name: round(total / count, 6) for name, total in zip(PART_NAMES, sums, strict=True)}

    def overflows(self) -> int:
        """Return how many events were overwritten before they were read."""
        return sum(lost_in(self._rings.memory(index)) for index in range(self._board.slots_in_use))

    def exemplars(self) -> Mapping[str, Sequence[Exemplar | None]]:
        """Return the last turn of each bucket, by histogram."""
        return self._exemplars

    def slowest(self, count: int) -> list[dict[str, Any]]:
        """Return the turns of the last hour whose first text took longest."""
        now_us = time.monotonic_ns() // 1000
        self._slow = [entry for entry in self._slow if now_us - entry[3][3] < SLOW_S * 1e6]
        heapq.heapify(self._slow)
        rows = []
        for _, _, conversation, turn in heapq.nlargest(min(count, KEPT_SLOW), self._slow):
            whose = {"id": conversation.name, "key": key_of(conversation)}
            rows.append({"conversation": whose, "ago_s": round((now_us - turn[3]) / 1e6, 1), **turn_row(turn)})
        return rows

    def find(self, text: str) -> list[dict[str, Any]]:
        """Return conversations whose id has the text, open ones first, the newest of each first."""
        opened = sorted(self.timelines.live.values(), key=lambda found: -found.opened_us)
        both = [*opened, *reversed(self._ended)]
        found = (one for one in both if not text or text in (one.name or ""))
        return [conversation_row(one) for one, _ in zip(found, range(MAX_ROWS), strict=False)]

    def named(self, name: str) -> list[Conversation]:
        """Return the conversations with an id, or with one that begins so if none is equal; open ones first."""
        both = [*self.timelines.live.values(), *reversed(self._ended)]
        return [one for one in both if one.name == name] or [one for one in both if (one.name or "").startswith(name)]

    def known(self, key: str) -> Conversation | None:
        """Return the conversation that `key_of` names; None if it is not known any more."""
        for conversation in (*self.timelines.live.values(), *reversed(self._ended)):
            if key_of(conversation) == key:
                return conversation
        return None

    def forget(self, conversations: Sequence[Conversation]) -> None:
        """Forget what conversations were about."""
        gone = {key_of(conversation) for conversation in conversations}
        for conversation in conversations:
            conversation.forget()
        self._ended = deque(one for one in self._ended if key_of(one) not in gone)
        self._ended_bytes = sum(one.size for one in self._ended)
        self._slow = [entry for entry in self._slow if key_of(entry[2]) not in gone]
        heapq.heapify(self._slow)
        names = {conversation.name for conversation in conversations}
        for kept in self._exemplars.values():
            kept[:] = [None if one is not None and one.conversation_id in names else one for one in kept]

    def one(self, key: str) -> dict[str, Any] | None:
        """Return a conversation with its turns and events; None if it is not known any more."""
        conversation = self.known(key)
        if conversation is None:
            return None
        start_us = conversation.opened_us
        return {
            **conversation_row(conversation),
            "turns": [
                {"at_s": round((turn[2] - start_us) / 1e6, 6), **turn_row(turn)} for turn in conversation.recent_turns
            ],
            "events": [
                (round((when_us - start_us) / 1e6, 6), kind, detail_of(kind, payload))
                for when_us, kind, payload in conversation.events()
            ],
            "payloads": [payload for _, _, payload in conversation.events()],
            "dropped": conversation.dropped,
        }


def _wall_s() -> float:
    return time.time() - time.monotonic()
