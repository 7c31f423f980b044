"""Hold se-chat's conversation, typed, piped or scripted, and show it."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from se_server.address import shown
from se_server.cli.chat_commands import COMMANDS
from se_server.cli.chat_course import SILENCE_TIMEOUT_S, Chat
from se_server.cli.chat_history import history_file, load_history, save_line
from se_server.cli.jsonlines import JsonLines
from se_server.cli.request import ServerAccess
from se_server.cli.screen import LineReader, OutputError, Paint, Transcript, printable
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.habits import Habits
from se_server.simulator.play import Failure, play
from se_server.simulator.recording import Recording
from se_server.simulator.script import Script

if TYPE_CHECKING:
    from se_server.cli.console import Console

RECONNECT_S = 0.5


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
        reconnects: whether another conversation begins when the server ends one.
    """

    url: str
    access: ServerAccess
    conversation_id: str | None
    habits: Habits | None
    script: Script | None
    reply_timeout_s: float | None
    record: TextIO | None
    as_json: bool
    reconnects: bool = False


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
    console: Console | None = None
    if options.as_json:
        chat.screen = JsonLines(sys.stdout)
    elif (is_typed or script is not None) and is_shown and os.environ.get("TERM", "dumb") != "dumb":
        # Imported here: prompt_toolkit takes a fifth of a second, which pipes and programs need not wait for.
        from se_server.cli.console import Console

        path = history_file(os.environ)

        def take_line(line: str) -> None:
            if line.strip():
                save_line(path, line)
            chat.typed(line)

        # A script uses it as well, for its line breaks; it is entered only to read typed lines.
        commands = [f"/{usage.split()[0]}" for usage in COMMANDS]
        history = load_history(path) if is_typed else []
        chat.screen = console = Console(in_fd, sys.stdout, take_line, chat.input_over, history, commands)
    else:
        chat.screen = Transcript(sys.stdout, echo=not (is_typed and is_shown))
    habits = options.habits or (script.habits if script is not None else None)
    chat.shows_habits = habits is not None
    chat.reconnects = options.reconnects
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        is_first = True
        while True:
            connecting = _connect(options, chat, habits, is_first)
            async with connecting if is_first else _whenever_there_is_one(chat, connecting, options, habits) as caller:
                if caller is None:  # the user leaves while there is no server
                    return chat.done.result()
                chat.begin(caller)
                if is_first and not options.as_json:
                    greet(caller, options.url, options.access.key_source, is_typed)
                if is_first:
                    for number in (signal.SIGINT, signal.SIGTERM):
                        loop.add_signal_handler(number, chat.finish, 130 if script is not None else 0)
                if script is not None:
                    exit_code: int | None = await follow(script, chat)
                    if console is not None:
                        console.rest()
                else:
                    if is_first and console is not None:
                        loop.add_signal_handler(signal.SIGCONT, console.resume)
                        await stack.enter_async_context(console)
                    elif is_first:
                        stack.enter_context(LineReader(in_fd, chat.typed, chat.input_over))
                    else:
                        chat.screen.note(f"[a new conversation: {caller.model.conversation_id}]", "began")
                    if is_typed:
                        chat.screen.prompt()
                    chat.advance()
                    exit_code = await chat.over()
                chat.is_over = True
                await caller.close()
                if exit_code is not None:
                    await stack.aclose()
                    conclude(chat, options, exit_code)
            if caller.recording_problem is not None:
                raise OutputError(f"the recording: {caller.recording_problem.strerror}")
            if exit_code is not None:
                return exit_code
            is_first = False


def _connect(
    options: ChatOptions, chat: Chat, habits: Habits | None, is_first: bool
) -> AbstractAsyncContextManager[Caller]:
    script = options.script
    given_id = options.conversation_id or (script.conversation_id if script is not None else None)
    return Caller.connect(
        options.url,
        api_key=options.access.key,
        headers=options.access.headers,
        conversation_id=given_id if is_first else None,
        habits=habits,
        connect_timeout_s=options.access.connect_timeout_s,
        reply_timeout_s=chat.reply_timeout_s,
        ssl_context=options.access.tls.context() if options.url.startswith("wss:") else None,
        recording=None if options.record is None else Recording(options.record),
        on_event=chat.happened,
    )


@asynccontextmanager
async def _whenever_there_is_one(
    chat: Chat, connecting: AbstractAsyncContextManager[Caller], options: ChatOptions, habits: Habits | None
) -> AsyncIterator[Caller | None]:
    """Connect again, as soon as a server takes the conversation; None if the user leaves before."""
    is_waiting = False
    while True:
        try:
            caller = await connecting.__aenter__()
        except CallerError as error:
            if chat.done.done():
                yield None
                return
            if not options.reconnects:
                raise
            if not is_waiting:
                is_waiting = True
                chat.screen.note(f"[{error}; trying again]", "waiting")
            await asyncio.wait([chat.done], timeout=RECONNECT_S)
            connecting = _connect(options, chat, habits, False)
        else:
            break
    try:
        yield caller
    finally:
        await connecting.__aexit__(None, None, None)


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
    columns = shutil.get_terminal_size().columns - 1 if sys.stderr.isatty() else 1000

    def show(text: str) -> None:
        for row in textwrap.wrap(text, max(20, columns), break_on_hyphens=False):
            click.echo(dim(row, dim=True), err=True)

    show(f"Connected to {shown(url)} as {caller.model.conversation_id}, with {key_source}.")
    if is_typed:
        hint = "Type what the user says; during an answer it interrupts. /help shows commands, Ctrl-D hangs up."
        show(hint)
