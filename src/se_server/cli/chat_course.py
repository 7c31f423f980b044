"""The course of se-chat's conversation, without its terminal and its socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from se_server.cli.chat_commands import carry_out, is_command
from se_server.cli.screen import Screen, printable
from se_server.simulator.caller import Caller
from se_server.simulator.calls import Discarded, Heard, Pong, Said, Violation
from se_server.simulator.conversation import Ended, Happening

SILENCE_TIMEOUT_S = 60.0


class Chat:
    """One conversation after another: what is typed, and what happens.

    Args:
        waits: whether a line waits until the previous answer is complete. If not, it interrupts the answer.

    Attributes:
        caller: the simulated caller, once it is connected.
        screen: the screen that shows the conversation.
        done: the exit code, once the conversation is over.
        shows_habits: whether discarded chunks are shown, too.
        follows_script: whether a script speaks and decides when the conversation is over.
        is_over: whether nothing more is shown.
        reply_timeout_s: the longest silence before a complete answer, in seconds.
        again: why another conversation is to begin, once this one is over; None for the exit code in `done`.
        reconnects: whether another conversation begins when the server ends one.
    """

    def __init__(self, waits: bool) -> None:
        self.caller: Caller
        self.screen: Screen
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.shows_habits = False
        self.follows_script = False
        self.is_over = False
        self.reply_timeout_s = SILENCE_TIMEOUT_S
        self.reconnects = False
        self.again: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._is_connected = False
        self._waits = waits
        self._lines: deque[str] = deque()
        self._is_input_over = False
        self._silence: asyncio.TimerHandle | None = None

    def begin(self, caller: Caller) -> None:
        """Begin a conversation, the first or another one."""
        self.caller = caller
        self.is_over = False
        self.again = asyncio.get_running_loop().create_future()
        self._is_connected = True

    def restart(self, why: str) -> None:
        """End the conversation, and have another one begin."""
        self._is_connected = False
        if self._silence is not None:
            self._silence.cancel()
        if not self.again.done():
            self.again.set_result(why)

    async def over(self) -> int | None:
        """Wait until the conversation is over; return the exit code, or None if another one is to begin."""
        ends: list[asyncio.Future[Any]] = [self.done, self.again]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return self.done.result() if self.done.done() else None

    def advance(self) -> None:
        """Say what was typed while there was no conversation."""
        self._safely(self._go_on)

    @property
    def _is_answering(self) -> bool:
        return self.caller.model.is_answering

    def typed(self, line: str) -> None:
        """Handle a line that the user entered."""
        self._lines.append(line.strip())
        self._safely(self._advance)

    def input_over(self) -> None:
        """Handle the end of the user's input."""
        self._is_input_over = True
        self._safely(self._advance)

    def happened(self, event: Happening) -> None:
        """Handle an event of the conversation."""
        self._safely(lambda: self._show(event))

    def finish(self, exit_code: int) -> None:
        """End the conversation."""
        if self._silence is not None:
            self._silence.cancel()
        if not self.done.done():
            self.done.set_result(exit_code)

    def _go_on(self) -> None:
        if not self.follows_script:
            self._advance()

    def _advance(self) -> None:
        while self._lines and self._is_connected and not self.done.done() and not (self._waits and self._is_answering):
            line = self._lines.popleft()
            if is_command(line, self._waits):
                carry_out(self, line)
                if self._is_connected and not self.done.done() and not self._is_answering:
                    self.screen.prompt()
            elif line:
                self.say(line)
            elif not self._is_answering:
                self.screen.prompt()
        if self._is_input_over and not self._lines and self._is_connected and not (self._waits and self._is_answering):
            self.finish(0)

    def say(self, text: str) -> None:
        """Say something, as the user."""
        self.caller.utter(text)
        self._listen()

    def _show(self, event: Happening) -> None:
        if self.is_over or (self.done.done() and not self.follows_script):
            return
        if isinstance(event, Said):
            self.screen.said(event.turn.said, interrupts=event.interrupts)
        elif isinstance(event, Heard):
            if event.text:
                self.screen.heard(event.text)
            if event.is_final:
                turn = event.turn
                began = None if turn.first_chunk_at is None else turn.first_chunk_at - turn.said_at
                self.screen.answered(began)
                if not self._waits:
                    self.screen.prompt()
            if not self.follows_script:
                self._listen()
                self._advance()
        elif isinstance(event, Violation):
            self.screen.note(f"[the server broke the protocol: {event.reason}]", "violation", reason=event.reason)
        elif isinstance(event, Discarded):
            if self.shows_habits and event.text:
                self.screen.note(
                    f"[not heard: {printable(event.text)!r}, {event.reason} {event.event_id}]",
                    "discarded", content=event.text, reason=event.reason, event_id=event.event_id,
                )  # fmt: skip
        elif isinstance(event, Ended):
            self.screen.note(f"[{event}]", "ended", code=event.code, by_server=event.by_server)
            if self.reconnects and not self.follows_script:
                self.restart("")
            elif not self.follows_script:
                self.finish(1)
        elif not isinstance(event, Pong):
            self.screen.note(f"[API: {event.why}]", "habit", action=type(event).__name__.lower())
            # A habit may have ended an answer. Advance later, once its actions are carried out.
            asyncio.get_running_loop().call_soon(self._safely, self._go_on)

    def _listen(self) -> None:
        """Bound the silence that piped input waits through."""
        if self._silence is not None:
            self._silence.cancel()
        if self._waits and not self.follows_script and self._is_answering:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(self.reply_timeout_s, self._safely, self._give_up)

    def _give_up(self) -> None:
        self.screen.note(f"[no answer for {self.reply_timeout_s:g} s]")
        self.finish(1)

    def _safely(self, step: Callable[[], None]) -> None:
        """Run a step. An exception ends the chat instead of the callback it occurs in."""
        try:
            step()
        except Exception as error:
            if not self.done.done():
                self.done.set_exception(error)
