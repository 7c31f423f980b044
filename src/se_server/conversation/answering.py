# cython: binding=True
"""The answers of one conversation: what handlers send is spoken in their turn."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from se_server.conversation._outbox import Outbox
from se_server.conversation.findings import log_doubt
from se_server.conversation.jobs import current_turn
from se_server.conversation.notes import note
from se_server.conversation.settings import SessionSettings
from se_server.conversation.turn_ends import TurnEnds
from se_server.errors import SessionClosed, WrongThread
from se_server.protocol.turn import CUT_OFF, SUPERSEDED, WAITING, Turn
from se_server.streams._shape import Shaper
from se_server.streams._stream import Stream, open_stream
from se_server.streams.naming import describe_unshaped
from se_server.streams.refusing import refuse_flags, refuse_options
from se_server.streams.sniffing import RAW_START
from se_server.telemetry._printable import text_of
from se_server.telemetry._ring import LATE
from se_server.types import Stats

turn_of_task = current_turn.get


def _overridable(method: Any) -> Any:
    """Leave a method's signature out of the types: the published SDK's, which programs override with, is narrower."""
    return method


class Answering(TurnEnds):
    """The path of every answer. Compiled; `answering.pxd` declares its fields."""

    def _prepare(self, outbox: Outbox, settings: SessionSettings, stats: Stats) -> None:
        self._prepare_ends(outbox, settings, stats)
        self._stream_close_s = settings.stream_close_s
        self._speaks_refusals = settings.speak_refusals
        self._takes_over = settings.takeover
        self._chunk_pace_s = settings.chunk_pace_s or 0.0
        self._shape = settings.shape

    @_overridable
    async def send_response(
        self,
        response: str | AsyncIterable[Any],
        *,
        final: bool = True,
        text: Callable[[Any], str | None] | None = None,
        nodes: Iterable[str] | None = None,
        speak_refusals: bool | None = None,
        takeover: bool | None = None,
        shape: str | bool | None = None,
    ) -> bool:
        """Send an answer of the turn, to be spoken.

        A stream that fails, or whose events nobody can read, is an `error` event, and the failure text is spoken if
        nothing else was. An answer without text, such as a stream of tool calls, sends nothing: the next answer of the
        turn is the first. If none has text, the handler's end sends the `empty_answer_text` and the final.

        Args:
            response: the whole text, or an async iterable of texts or LLM events, which is closed in the end.
            final: True or False, whether the answer is complete; with False the next `send_response` continues it.
            text: returns the text of an event, None for nothing to speak; needed for events of no known API.
            nodes: the names of the LangGraph nodes whose messages are spoken; None: all.
            speak_refusals: whether a refusal of the model is spoken where the stream has no other text; else it is a
                failure. None: as the server is set up, which speaks them.
            takeover: whether the stream of an LLM package is read from its HTTP response, without the package's
                objects; with `text` it never is. None: as the server is set up, which does it.
            shape: how the text is shaped for speech: `plain` leaves out Markdown, links, code and emoji; `sentences`
                or `8 words` is how much a chunk has; both with a comma. True: `plain`. False: as it is. None: as the
                server is set up, which leaves it as it is.

        Returns:
            False when the turn was superseded, so that nobody will hear the answer; else True. Outside a turn it
            warns, sends nothing and returns False.

        Raises:
            SessionClosed: the session is closed.
            ValueError: there is no such shape.
            WrongThread: called from a thread other than the session's.
        """
        if not self._outbox.is_here():
            self._check_thread("send_response")
        if (final is not True and final is not False) or speak_refusals is not None or takeover is not None:
            try:
                refuse_flags(response, final, speak_refusals, takeover)
            except TypeError as error:
                return await self._refuse(error)
        if shape is None:
            shape = self._shape
        if isinstance(response, str) and not (type(response) is str and self._may_be_raw(response)):
            turn = self._turn_to_answer()
            if turn is None:
                return False
            if not self._outbox.writable and not await self._has_room(turn):
                return False
            final = final and not self._ends_with_turn
            kept, needs_final = turn.kept_texts(), turn.needs_final
            if shape is not None and shape is not False:
                self._send_shaped(turn, "".join((response,)), shape)
            else:
                # Not str(): a member of an enumeration of texts gives its name.
                self._send_text(turn, response if type(response) is str else "".join((response,)), final)
            turn.leave_out_blanks()
            if kept and response and not turn.has_words_since(kept):  # an empty text ends the answer; blanks do not
                turn.needs_final = turn.needs_final and needs_final
                final = False
            rest = self._end_answer(turn, final and turn.needs_final and turn.chunks > turn.fillers, False)
            if rest is not None:
                await rest
            return turn.open
        try:
            if text is not None or nodes is not None:
                refuse_options(response, text, nodes)
            stream = self._open(response, text is None and (self._takes_over if takeover is None else takeover))
        except TypeError as error:
            return await self._refuse(error)
        if text is not None or nodes is not None or speak_refusals is not None or not self._speaks_refusals:
            speaks = self._speaks_refusals if speak_refusals is None else speak_refusals
            stream.read_by(text=text, nodes=nodes, speak_refusals=speaks)
        try:
            if shape is not None:
                stream.shape(shape)
            turn = self._turn_to_answer()
            if turn is None:
                return False
            has_failed = False
            kept, needs_final = turn.kept_texts(), turn.needs_final
            try:
                await stream.pump(self._outbox, turn, self._clock)
            except Exception as error:
                if not turn.open:
                    note(self, logging.INFO, "a stream failed after its turn: %s", text_of(error, as_repr=True))
                elif not turn.is_full:
                    has_failed = True
                    self._speak_failure(turn)
                    await self._report(error)
            if turn.open and not has_failed and (doubt := stream.doubt()) is not None:
                self._log_doubt(turn, doubt)
            # Without words there is no answer to end: the handler may still give one, else the turn's end sends it.
            final = final and not self._ends_with_turn
            turn.leave_out_blanks()
            if kept and not turn.has_words_since(kept):
                turn.needs_final = turn.needs_final and needs_final
                final = False
            rest = self._end_answer(turn, final and turn.needs_final and turn.chunks > turn.fillers, has_failed)
            if rest is not None:
                await rest
            return turn.open
        finally:
            if not stream.is_over:
                left = await stream.aclose(self._stream_close_s)
                self._stats.cells.streams_left += left

    async def _refuse(self, error: TypeError) -> bool:
        """Report an answer that cannot be spoken; the handler goes on."""
        turn = self._turn_to_answer()
        if turn is None:
            return False
        self._speak_failure(turn)
        await self._report(error)
        return turn.open

    async def _has_room(self, turn: Turn) -> bool:
        """Wait for a peer that reads too slowly: turn after turn would add to what it has not read.

        Return whether the turn is still open.
        """
        while not self._outbox.writable and turn.open:
            await self._outbox.room()
        return turn.open

    def _may_be_raw(self, text: str) -> bool:
        """Return whether a text may be an HTTP response's body: it is read then, not spoken as it is."""
        return text != "" and text[0] in "deir:{\ufeff" and RAW_START.match(text) is not None

    def _open(self, response: object, takeover: bool) -> Stream:
        # A method of its own, so that Cython knows the type of its result.
        stream = open_stream(response, self._stream_close_s, takeover)
        if self._chunk_pace_s > 0:
            stream.gather(self._chunk_pace_s)
        return stream

    def _send_text(self, turn: Turn, text: str, final: bool) -> None:
        """Send a whole text; with `final`, it leaves together with its final."""
        if turn.bytes_left >= 0:
            text = turn.fit(text)
        if text:
            self._outbox.send(text, turn.event_id_json, False, final)
            turn.keep(text)
            turn.note_texts(1, self._clock.now())

    def _send_shaped(self, turn: Turn, text: str, shape: str | bool) -> None:
        """Send a whole text, shaped for speech."""
        shaper = Shaper(shape)
        chunks = shaper.feed(text)
        is_hiding = shaper.is_hiding()
        chunks += shaper.finish()
        is_silent = True
        for chunk in chunks:
            is_silent = is_silent and chunk.isspace()
            self._send_text(turn, chunk, True)  # its chunks leave together, with the final or the flush
        if is_hiding or (is_silent and shaper.plain and text and not text.isspace()):
            self._log_doubt(turn, (True, "shape", describe_unshaped(None, is_hiding, False)))

    def _end_answer(self, turn: Turn, final: bool, has_failed: bool) -> Awaitable[None] | None:
        """End an answer after its last text; return what its sender has to await, if anything."""
        if turn.is_full and turn.open:
            return self._end_full(turn)
        outbox = self._outbox
        if turn.open and not outbox.closed:
            if not final:
                outbox.flush()
            elif turn.needs_final or not has_failed:  # else the failure text, or the error handler, sent it
                self._send_final(turn)
        # A handler whose turn is over has nothing to wait for, least of all a peer that does not read.
        return None if outbox.writable or not turn.open else outbox.room()

    def _turn_to_answer(self) -> Turn | None:
        """Return the turn that the caller speaks for, or None, warned about unless it was superseded."""
        turn = turn_of_task()
        if self._closed:
            if turn is not None and turn is self._last_turn:
                return None  # its handler began after the end: nobody hears it, and the handler is not at fault
            raise SessionClosed("Cannot send response: session is closed")
        is_late = False
        if turn is None or turn.owner is not self:
            turn = self._ledger.current
            # The handler has not started: what comes now was meant for the turn before.
            is_late = turn is not None and turn.state is WAITING
        elif turn.state is SUPERSEDED or turn.state is CUT_OFF:
            is_late = True
        if turn is None or (not turn.open and not is_late):
            note(
                self,
                logging.WARNING,
                "send_response() was called outside a transcript handler and sent nothing. To have the agent speak"
                " first, set a first message in the Speech Engine's conversation config.",
            )
            return None
        if is_late:
            self._stats.cells.late_texts += 1
            if self._ring is not None:
                self._ring.note(LATE, self._number, 0, self._clock.now())
            return None
        return turn

    def _log_doubt(self, turn: Turn, doubt: tuple[bool, str, str]) -> None:
        job = self._lane._job
        log_doubt(self, job.handler if job is not None and job.turn is turn else None, doubt)

    def _check_thread(self, method: str) -> None:
        if not self._outbox.is_here():
            raise WrongThread(
                f"SpeechEngineSession.{method} was called from another thread; everything belongs to the event loop's: "
                f"use asyncio.run_coroutine_threadsafe(coroutine, loop), or loop.call_soon_threadsafe"
            )
