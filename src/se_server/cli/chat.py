"""`se-chat`: talk to a server from a terminal. It plays the API's side; what you type is what the user says."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

import click

from se_server.cli.console import Console
from se_server.cli.screen import LineReader, Paint, Screen, Transcript
from se_server.demo import DEMO_API_KEY
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import Heard, Violation
from se_server.simulator.conversation import Ended, Happening

DEFAULT_URL = "ws://127.0.0.1:3001/ws"
SILENCE_TIMEOUT_S = 60.0


class Chat:
    """What is typed, said and shown: the conversation's course, without its terminal and its socket.

    Args:
        waits: whether a line waits until the answer before it is complete. If not, it interrupts it.

    Attributes:
        caller: the other side, as soon as it is connected.
        screen: what the conversation is shown on.
        done: the exit code, when the conversation is over.
    """

    def __init__(self, waits: bool) -> None:
        self.caller: Caller
        self.screen: Screen
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waits = waits
        self._lines: deque[str] = deque()
        self._is_input_over = False
        self._silence: asyncio.TimerHandle | None = None

    @property
    def _is_answering(self) -> bool:
        turn = self.caller.model.turn
        return turn is not None and turn.is_answering

    def typed(self, line: str) -> None:
        """The user entered a line."""
        self._lines.append(line.strip())
        self._safely(self._advance)

    def input_over(self) -> None:
        """The user will enter no more."""
        self._is_input_over = True
        self._safely(self._advance)

    def happened(self, event: Happening) -> None:
        """Something came from the server."""
        self._safely(lambda: self._show(event))

    def finish(self, exit_code: int) -> None:
        """End the conversation."""
        if self._silence is not None:
            self._silence.cancel()
        if not self.done.done():
            self.done.set_result(exit_code)

    def _advance(self) -> None:
        while self._lines and not self.done.done() and not (self._waits and self._is_answering):
            line = self._lines.popleft()
            if line == "/quit":
                self.finish(0)
            elif line:
                self.screen.said(line, interrupts=self._is_answering)
                self.caller.utter(line)
                self._listen()
            elif not self._is_answering:
                self.screen.prompt()
        if self._is_input_over and not self._lines and not (self._waits and self._is_answering):
            self.finish(0)

    def _show(self, event: Happening) -> None:
        if self.done.done():
            return
        if isinstance(event, Heard):
            if event.text:
                self.screen.heard(event.text)
            if event.is_final:
                self.screen.answered()
                if not self._waits:
                    self.screen.prompt()
            self._listen()
            self._advance()
        elif isinstance(event, Violation):
            self.screen.note(f"[the server broke the protocol: {event.reason}]")
        elif isinstance(event, Ended):
            self.screen.note(f"[{event}]")
            self.finish(1)

    def _listen(self) -> None:
        """Bound the silence that a script, with nobody there to lose patience, waits through."""
        if self._silence is not None:
            self._silence.cancel()
        if self._waits and self._is_answering:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(SILENCE_TIMEOUT_S, self._safely, self._give_up)

    def _give_up(self) -> None:
        self.screen.note(f"[no answer for {SILENCE_TIMEOUT_S:g} s]")
        self.finish(1)

    def _safely(self, step: Callable[[], None]) -> None:
        """Let what a step raises end the chat, instead of the callback it runs in."""
        try:
            step()
        except Exception as error:
            if not self.done.done():
                self.done.set_exception(error)


async def converse(url: str, key: str, key_source: str, conversation_id: str | None, headers: dict[str, str]) -> int:
    """Hold one conversation between the terminal and a server, and return the exit code.

    Raises:
        CallerError: there is no server at `url`, or it refused.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Half an emoji, or a letter that the locale cannot show, must not end the conversation.
        sys.stdout.reconfigure(errors="replace")
    in_fd, is_typed, is_shown = sys.stdin.fileno(), sys.stdin.isatty(), sys.stdout.isatty()
    chat = Chat(waits=not is_typed)
    terminal: AbstractContextManager[object]
    resume: Callable[[], None] | None = None
    if is_typed and is_shown and os.environ.get("TERM", "dumb") != "dumb":
        console = Console(in_fd, sys.stdout, chat.typed, chat.input_over)
        chat.screen, terminal, resume = console, console, console.resume
    else:
        chat.screen = Transcript(sys.stdout, echo=not (is_typed and is_shown))
        terminal = LineReader(in_fd, chat.typed, chat.input_over)
    async with Caller.connect(
        url, api_key=key, headers=headers, conversation_id=conversation_id, on_event=chat.happened
    ) as caller:
        chat.caller = caller
        greet(caller, url, key_source, is_typed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, chat.finish, 0)
        if resume is not None:
            loop.add_signal_handler(signal.SIGCONT, resume)
        with terminal:
            if is_typed:
                chat.screen.prompt()
            return await chat.done


def greet(caller: Caller, url: str, key_source: str, is_typed: bool) -> None:
    """Say on standard error, away from the conversation, whom one talks to."""
    dim = Paint(sys.stderr)
    click.echo(dim(f"Connected to {url} as {caller.model.conversation_id}, with {key_source}.", dim=True), err=True)
    if is_typed:
        hint = "Type what the user says; during an answer it interrupts. Ctrl-D or /quit hangs up."
        click.echo(dim(hint, dim=True), err=True)


def _open_closed_streams() -> None:
    """Open streams that were closed (`<&-`) to nothing: Python has None for them, and a socket would take the place.

    In this order each gets its own descriptor, the lowest that is free.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for the process's life


def _headers(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{header!r} is no header: write 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url", default=DEFAULT_URL)
@click.option("--api-key", metavar="KEY", help="Key that signs the token; else ELEVENLABS_API_KEY, else the demo key.")
@click.option("--conversation-id", metavar="ID", help="Id that init announces; by default a fresh one.")
@click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, callback=_headers,
              help="A further header of the upgrade request; may be repeated.")  # fmt: skip
def main(url: str, api_key: str | None, conversation_id: str | None, headers: dict[str, str]) -> None:
    """Talk to a Speech Engine server from the terminal, in the API's place.

    URL is the server's WebSocket, by default ws://127.0.0.1:3001/ws. What you type is what the user says; a line typed
    during an answer interrupts it. With input from a pipe every line waits for the answer before it.
    """
    _open_closed_streams()
    key, source = api_key, "the key of --api-key"
    if not key:
        # se-server takes several keys there, while one replaces another.
        keys = os.environ.get("ELEVENLABS_API_KEY", "").split(",")
        key, source = next((name.strip() for name in keys if name.strip()), None), "the key of ELEVENLABS_API_KEY"
    if not key:
        key, source = DEMO_API_KEY, "the demo key"
    try:
        exit_code = asyncio.run(converse(url, key, source, conversation_id, headers))
    except CallerError as error:
        used = f" (se-chat used {source})" if error.status == 401 else ""
        click.echo(f"se-chat: {error}{used}", err=True)
        exit_code = 1
    sys.exit(exit_code)


if __name__ == "__main__":
    main(prog_name="se-chat")
