"""One conversation of the page: the simulated API holds it with the server, and each change is told to the page."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from se_server.errors import CallerError
from se_server.playground.choices import MAX_TURNS, TalkOptions
from se_server.playground.frames import Frames, frame_of
from se_server.playground.ledger import Ledger, turn_of
from se_server.playground.picture import picture_of
from se_server.playground.rerun import take_again
from se_server.playground.server_side import ServerSide
from se_server.playground.texts import Text, cut
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn, Discarded, Heard, Pong, Said, Violation
from se_server.simulator.connection import Ended, Happening
from se_server.simulator.exporting import Held
from se_server.simulator.habits import Habits, changes
from se_server.simulator.messages import encode
from se_server.simulator.recording import Record
from se_server.simulator.script import Step

FLUSH_S = 0.025
"""Texts that arrive within this time are drawn at once."""
REPLY_TIMEOUT_S = 90.0
LEDGER_PAUSES_S = (0.03, 0.1, 0.3, 1.0, 3.0)

Publish = Callable[[dict[str, Any]], None]


class Talk:
    """One conversation.

    Args:
        key: its name on the page.
        options: the choices of the page.
        server: the server, and how to reach it.
        ledger: knows the server's side of a turn.
        publish: tells the page of a change.
    """

    def __init__(self, key: str, options: TalkOptions, server: ServerSide, ledger: Ledger, publish: Publish) -> None:
        self.key = key
        self.options = options
        self.frames = Frames(self._framed)
        self.caller: Caller | None = None
        self.is_over = False
        self._server = server
        self._ledger = ledger
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._began_at = self._loop.time()
        self._texts: list[list[Text]] = []  # of each turn, all that arrived for it
        self._sides: dict[int, dict[str, Any]] = {}  # the server's side of turns
        self._dirty: set[int] = set()
        self._flush: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._asked_for: set[int] = set()
        self._habits_of: list[Habits] = []  # of each turn, those in force when it began

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hold the conversation until it ends, or until `close`."""
        server, options = self._server, self.options
        url = server.url + (f"?{options.query}" if options.query else "")
        try:
            async with Caller.connect(
                url,
                api_key=server.key,
                headers={**server.headers, **options.headers},
                habits=options.habits,
                reply_timeout_s=REPLY_TIMEOUT_S,
                on_event=self._happened,
                recording=self.frames,
                first_message=options.first_message,
                ssl_context=server.ssl_context(),
            ) as caller:
                self.caller = caller
                self._tell("opened", conversation_id=caller.model.conversation_id, url=url, at_s=self._s(caller.now))
                if options.again:
                    self._start(self._speak_again(options.again))
                await self._closing.wait()
        except CallerError as error:
            self._tell("refused", text=str(error))
        finally:
            self.is_over = True
            for turn in range(len(self._texts)):
                self._touch(turn)
            self._flush_now()

    def close(self) -> None:
        """Let the caller hang up."""
        self._closing.set()

    async def finish(self) -> None:
        """Wait for what is asked of the ledger, at most as long as that asks, then stop."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _start(self, job: Any) -> None:
        task = self._loop.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # --- what the page asks for ---------------------------------------------------------------------------------------

    def say(self, text: str, spoken_chars: int | None = None) -> None:
        """Let the user speak.

        Args:
            text: the words.
            spoken_chars: how much of the newest answer the page's voice had spoken; None if all of it was heard.

        Raises:
            CallerError: the conversation is over.
        """
        caller = self._open()
        if len(caller.model.turns) >= MAX_TURNS:
            raise CallerError(f"a conversation of the playground has at most {MAX_TURNS} turns: begin a new one")
        if spoken_chars is not None:
            self.cut_short(spoken_chars)
        caller.utter(text)

    def cut_short(self, spoken_chars: int) -> None:
        """Shorten the newest answer to what the page's voice has spoken of it."""
        caller = self._open()
        turns = caller.model.turns
        if not turns or turns[-1].is_interrupted or spoken_chars >= len(turns[-1].heard):
            return
        caller.cut_short(spoken_chars)
        cut(self._texts[-1], spoken_chars)
        self._touch(len(turns) - 1)

    def change_habits(self, habits: Habits) -> None:
        """Show other habits from now on."""
        self.options = dataclasses.replace(self.options, habits=habits)
        if self.caller is not None:
            self.caller.change_habits(habits)

    async def act(self, what: str) -> None:
        """Do one thing: `again`, `ping`, `reconnect`, `drop` or `close`.

        Raises:
            CallerError: the conversation is over, or there is nothing to send again.
        """
        caller = self._open()
        if what == "again":
            turn = caller.model.turn
            if turn is None:
                raise CallerError("nothing was said yet that could be sent again")
            caller.replay(turn.asks[-1].message)
            self._tell("habit", why="the same transcript again, because you asked for it", turn=len(self._texts) - 1)
        elif what == "ping":
            self._tell("habit", why=f"ping: the pong came after {1000 * await caller.ping():.1f} ms")
        elif what == "reconnect":
            await caller.reconnect()
            self._tell("habit", why="the connection was dropped, and the conversation goes on over a new one")
        elif what == "drop":
            caller.drop()
        else:
            self.close()

    def records(self) -> list[Record]:
        """Return the recording so far. One that goes on is closed, so that its replay waits for the last answer."""
        records = list(self.frames.records)
        if records and not self.is_over:
            t_s = self._loop.time() - self._began_at
            records += [Record(t_s, "out", "text", encode("close")), Record(t_s, "out", "close")]
        return records

    def held(self) -> Held:
        """Return the conversation so far, for export."""
        caller = self.caller
        if caller is None:
            raise CallerError("the conversation has not begun")
        turns = [(turn, caller.verdict(turn)) for turn in caller.model.turns]
        first = self._habits_of[0] if self._habits_of else self.options.habits
        changes = {
            place: habits
            for place, (before, habits) in enumerate(zip([first, *self._habits_of], self._habits_of, strict=False))
            if before != habits
        }
        query = f"?{self.options.query}" if self.options.query else ""
        return Held(
            turns,
            first,
            caller.model.conversation_id,
            self._server.app or "se_server.demo",
            (self._server.path or "/") + query if self._server.path or query else "/",
            self.options.headers,
            self.options.cascade_timeout_s,
            changes,
        )

    def _open(self) -> Caller:
        if self.caller is None and not self.is_over:
            raise CallerError("the conversation has not begun yet: wait a moment")
        if self.caller is None or self.is_over:
            raise CallerError("the conversation is over: begin a new one")
        return self.caller

    async def _speak_again(self, steps: tuple[Step, ...]) -> None:
        """Take the steps of an earlier conversation, and tell the page of the end."""
        try:
            await take_again(self._open(), steps)
            self._tell("again", text="")
        except CallerError as error:
            self._tell("again", text=str(error))

    # --- what happens -------------------------------------------------------------------------------------------------

    def _happened(self, event: Happening) -> None:
        if isinstance(event, Said):
            self._texts.append([])
            self._habits_of.append(self.options.habits)
            newest = len(self._texts) - 1
            self._touch(newest)
            if newest:
                self._touch(newest - 1)
                self._ask_ledger(newest - 1)
            self._watch(event.turn, newest)
        elif isinstance(event, Heard):
            self._heard(event)
        elif isinstance(event, Discarded):
            self._discarded(event)
        elif isinstance(event, Violation):
            self._tell("violation", text=event.reason)
        elif isinstance(event, Ended):
            self.is_over = True
            for turn in range(len(self._texts)):
                self._touch(turn)
            if self._texts:
                self._ask_ledger(len(self._texts) - 1)
            self._flush_now()
            self._tell("ended", text=str(event), code=event.code, by_server=event.by_server)
        elif not isinstance(event, Pong):
            self._tell("habit", why=event.why, turn=len(self._texts) - 1)
            self._touch(len(self._texts) - 1)

    def _heard(self, event: Heard) -> None:
        newest = len(self._texts) - 1
        texts = self._texts[newest]
        if event.text:
            event_id = event.turn.event_id
            for text in texts:
                if text.event_id != event_id and text.is_heard:  # a further id for the pause: the answer starts over
                    text.is_heard, text.why = False, "the API took the answer under the newer id"
            is_heard = bool(event.turn.chunks)
            why = "" if is_heard else "a blank before the first word, which nobody hears"
            texts.append(Text(event.text, event_id, self._now(), len(texts), is_heard, why))
        if event.is_final:
            self._ask_ledger(newest)
        self._touch(newest)

    def _discarded(self, event: Discarded) -> None:
        assert self.caller is not None
        for place, turn in enumerate(self.caller.model.turns):
            if any(ask.event_id == event.event_id for ask in turn.asks):
                if event.text:
                    texts = self._texts[place]
                    texts.append(Text(event.text, event.event_id, self._now(), len(texts), False, event.reason))
                self._touch(place)

    def _watch(self, turn: CallTurn, place: int) -> None:
        """Look at a turn once more when the API would ask again."""

        def look() -> None:
            if turn.first_chunk_at is None and turn.is_answering and not self.is_over:
                self._touch(place)

        self._loop.call_later(self.options.cascade_timeout_s + 0.01, look)

    # --- the server's side --------------------------------------------------------------------------------------------

    def _ask_ledger(self, place: int) -> None:
        if place not in self._asked_for:
            self._asked_for.add(place)
            self._start(self._fetch(place))

    async def _fetch(self, place: int) -> None:
        try:
            for pause_s in LEDGER_PAUSES_S:
                await asyncio.sleep(pause_s)
                caller = self.caller
                if caller is None:
                    return
                turn = caller.model.turns[place]
                ids = {ask.event_id for ask in turn.asks}
                for conversation in await self._ledger.conversations(caller.model.conversation_id):
                    side = turn_of(conversation, ids)
                    if side is not None:
                        self._sides[place] = self._marked(side, turn)
                        self._touch(place)
                        return
        finally:
            self._asked_for.discard(place)

    def _marked(self, side: dict[str, Any], turn: CallTurn) -> dict[str, Any]:
        failure = self._server.failure_text
        if failure and side["outcome"] == "failed":
            texts = [text.text for text in self._texts_of(turn)]
            side["marks"] = [
                "failure" if text == failure else mark for text, mark in zip(texts, side["marks"], strict=False)
            ]
        return side

    def _texts_of(self, turn: CallTurn) -> list[Text]:
        assert self.caller is not None
        return self._texts[self.caller.model.turns.index(turn)]

    # --- telling the page ---------------------------------------------------------------------------------------------

    def _touch(self, place: int) -> None:
        if place < 0:
            return
        self._dirty.add(place)
        if self._flush is None:
            self._flush = self._loop.call_later(FLUSH_S, self._flush_now)

    def _flush_now(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        dirty, self._dirty = sorted(self._dirty), set()
        for place in dirty:
            if self.caller is not None and place < len(self._texts):
                self._tell("turn", **self._picture(place))

    def _picture(self, place: int) -> dict[str, Any]:
        assert self.caller is not None
        return {
            "turn": place,
            **picture_of(
                self.caller,
                self.caller.model.turns[place],
                self._texts[place],
                self._sides.get(place),
                began_at=self._began_at,
                cascade_timeout_s=self.options.cascade_timeout_s,
                is_over=self.is_over,
            ),
        }

    def _framed(self, number: int) -> None:
        self._tell("frame", **frame_of(self.frames.records[number], number), turn=len(self._texts) - 1)

    def _tell(self, kind: str, **fields: Any) -> None:
        self._publish({"talk": self.key, "kind": kind, **fields})

    def _now(self) -> float:
        return self._s(self._loop.time())

    def _s(self, at: float) -> float:
        """Return a time of the loop's clock as seconds since the conversation was asked for."""
        return round(at - self._began_at, 6)

    def about(self) -> dict[str, Any]:
        """Return the habits in force, for the page."""
        return {"habits": changes(self.options.habits)}
