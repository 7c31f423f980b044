"""Hold se-chat's conversation, typed, piped or scripted, and show it."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO

import click

from se_server.cli.console import Console
from se_server.cli.jsonlines import JsonLines
from se_server.cli.request import ServerAccess
from se_server.cli.screen import LineReader, OutputError, Paint, Screen, Transcript, printable
from se_server.simulator.caller import Caller
from se_server.simulator.calls import Discarded, Heard, Pong, Said, Violation
from se_server.simulator.conversation import Ended, Happening
from se_server.simulator.habits import Habits
from se_server.simulator.play import Failure, play
from se_server.simulator.recording import Recording
from se_server.simulator.script import Script

SILENCE_TIMEOUT_S = 60.0


class Chat:
    """The course of the conversation, without its terminal and its socket.

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
    """

    def __init__(self, waits: bool) -> None:
        self.caller: Caller
        self.screen: Screen
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.shows_habits = False
        self.follows_script = False
        self.is_over = False
        self.reply_timeout_s = SILENCE_TIMEOUT_S
        self._waits = waits
        self._lines: deque[str] = deque()
        self._is_input_over = False
        self._silence: asyncio.TimerHandle | None = None

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
        while self._lines and not self.done.done() and not (self._waits and self._is_answering):
            line = self._lines.popleft()
            if line == "/quit":
                self.finish(0)
            elif line:
                self.caller.utter(line)
                self._listen()
            elif not self._is_answering:
                self.screen.prompt()
        if self._is_input_over and not self._lines and not (self._waits and self._is_answering):
            self.finish(0)

    def _show(self, event: Happening) -> None:
        if self.is_over or (self.done.done() and not self.follows_script):
            return
        if isinstance(event, Said):
            self.screen.said(event.turn.said, interrupts=event.interrupts)
        elif isinstance(event, Heard):
            if event.text:
                self.screen.heard(event.text)
            if event.is_final:
                self.screen.answered()
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
            if not self.follows_script:
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


@dataclass(frozen=True)
class ChatOptions:
    """The options of one conversation, from the command line.

    Attributes:
        url: the server.
        access: the way to it.
        conversation_id: the id that init announces; None for a fresh one, or the script's.
        habits: the API's habits; None for the script's, or none.
        script: the script; None for typed or piped input.
        reply_timeout_s: the longest silence before a complete answer, in seconds; None for the script's, or a minute.
        record: the file of the recording.
        as_json: whether to write JSON for programs.
    """

    url: str
    access: ServerAccess
    conversation_id: str | None
    habits: Habits | None
    script: Script | None
    reply_timeout_s: float | None
    record: TextIO | None
    as_json: bool


async def converse(options: ChatOptions) -> int:
    """Hold one conversation between the terminal and a server, and return the exit code.

    Raises:
        CallerError: there is no server at the address, or it refused the connection.
        OutputError: the output cannot be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Half an emoji, or a letter outside the locale's encoding, must not end the conversation.
        sys.stdout.reconfigure(errors="replace")
    script = options.script
    in_fd, is_typed, is_shown = sys.stdin.fileno(), sys.stdin.isatty() and script is None, sys.stdout.isatty()
    chat = Chat(waits=not is_typed)
    chat.reply_timeout_s = options.reply_timeout_s or (script.reply_timeout_s if script else SILENCE_TIMEOUT_S)
    terminal: AbstractContextManager[object] = LineReader(in_fd, chat.typed, chat.input_over)
    resume: Callable[[], None] | None = None
    if options.as_json:
        chat.screen = JsonLines(sys.stdout)
    elif (is_typed or script is not None) and is_shown and os.environ.get("TERM", "dumb") != "dumb":
        # A script uses it as well, for its line breaks; it is entered only to read typed lines.
        console = Console(in_fd, sys.stdout, chat.typed, chat.input_over)
        chat.screen, terminal, resume = console, console, console.resume
    else:
        chat.screen = Transcript(sys.stdout, echo=not (is_typed and is_shown))
    habits = options.habits or (script.habits if script is not None else None)
    chat.shows_habits = habits is not None
    async with Caller.connect(
        options.url,
        api_key=options.access.key,
        headers=options.access.headers,
        conversation_id=options.conversation_id or (script.conversation_id if script is not None else None),
        habits=habits,
        connect_timeout_s=options.access.connect_timeout_s,
        reply_timeout_s=chat.reply_timeout_s,
        ssl_context=options.access.tls.context() if options.url.startswith("wss:") else None,
        recording=None if options.record is None else Recording(options.record),
        on_event=chat.happened,
    ) as caller:
        chat.caller = caller
        if not options.as_json:
            greet(caller, options.url, options.access.key_source, is_typed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, chat.finish, 130 if script is not None else 0)
        if script is not None:
            exit_code = await follow(script, chat)
            if isinstance(chat.screen, Console):
                chat.screen.rest()
        else:
            if resume is not None:
                loop.add_signal_handler(signal.SIGCONT, resume)
            with terminal:
                if is_typed:
                    chat.screen.prompt()
                exit_code = await chat.done
        chat.is_over = True
        await caller.close()
        conclude(chat, options, exit_code)
    if caller.recording_problem is not None:
        raise OutputError(f"the recording: {caller.recording_problem.strerror}")
    return exit_code


async def follow(script: Script, chat: Chat) -> int:
    """Play a script on the chat's caller, and return the exit code: 0 when all expectations were met."""
    chat.follows_script = True

    def failed(failure: Failure) -> None:
        chat.screen.note(
            f"[not as expected: {failure}]", "failure",
            step=failure.step, expected=failure.expected, heard=failure.heard, reason=failure.reason,
        )  # fmt: skip

    playing = asyncio.create_task(play(script, chat.caller, failed))
    chat.done.add_done_callback(lambda _: playing.cancel())  # Ctrl-C, or the output cannot be written
    await asyncio.wait([playing])
    if playing.cancelled():
        return chat.done.result()
    chat.finish(0)
    chat.done.result()  # raises the error of showing the conversation, if any
    if playing.result():
        return 1
    return 0 if not chat.shows_habits or chat.caller.summary().is_ok else 1


def conclude(chat: Chat, options: ChatOptions, exit_code: int) -> None:
    """Show the result of a script or of a conversation with habits: in full as JSON, or in a few lines for people."""
    summary = chat.caller.summary()
    if options.as_json:
        turns = [{**dataclasses.asdict(turn), "is_ok": turn.is_ok} for turn in summary.turns]
        chat.screen.note(
            str(summary), "summary",
            exit_code=exit_code, turns=turns, discarded=summary.discarded, violations=summary.violations,
        )  # fmt: skip
    elif options.script is not None or chat.shows_habits:
        paint = Paint(sys.stderr)
        verdict = ""
        if options.script is not None:
            word = paint("failed", fg="red", bold=True) if exit_code else paint("passed", fg="green", bold=True)
            verdict = f"{options.script.name}: {word}. "
        click.echo(verdict + f"{summary}.", err=True)
        if chat.shows_habits:
            for problem in summary.problems:
                click.echo(f"  {printable(problem)}", err=True)


def greet(caller: Caller, url: str, key_source: str, is_typed: bool) -> None:
    """Print the server and the conversation id on standard error, apart from the conversation."""
    dim = Paint(sys.stderr)
    click.echo(dim(f"Connected to {url} as {caller.model.conversation_id}, with {key_source}.", dim=True), err=True)
    if is_typed:
        hint = "Type what the user says; during an answer it interrupts. Ctrl-D or /quit hangs up."
        click.echo(dim(hint, dim=True), err=True)
