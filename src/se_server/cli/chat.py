"""`se-chat`: talk to a server from a terminal, in the API's place."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from se_server.address import Address, AddressError
from se_server.cli.chat_course import SILENCE_TIMEOUT_S
from se_server.cli.commands import SETTINGS, PlainCommand, complain
from se_server.cli.dialogue import ChatOptions, converse
from se_server.cli.request import ServerAccess, calls_a_server
from se_server.cli.screen import OutputError
from se_server.errors import CallerError, ScriptError
from se_server.simulator.habits import Habits
from se_server.simulator.loading import load_script
from se_server.simulator.script import Script

DEFAULT_URL = "ws://127.0.0.1:3001/ws"


def _open_closed_streams() -> None:
    """Open closed streams (`<&-`) on /dev/null. Python sets them to None, and a socket would take their descriptor.

    In this order each stream gets its own descriptor, the lowest free one.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for the process's life


def _script(_context: click.Context, _option: click.Parameter, path: Path | None) -> Script | None:
    try:
        return None if path is None else load_script(path)
    except ScriptError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=PlainCommand, context_settings=SETTINGS)
@click.argument("url", default=DEFAULT_URL)
@calls_a_server()
@click.option("--conversation-id", metavar="ID", help="Id that init announces; by default a fresh one.")
@click.option("--reply-timeout-s", metavar="SECONDS", type=click.FloatRange(0, min_open=True),
              help=f"The longest silence before a complete answer, for piped lines and scripts.  [default: {SILENCE_TIMEOUT_S:g}]")  # fmt: skip  # noqa: E501
@click.option("--script", metavar="FILE", type=click.Path(path_type=Path), callback=_script,
              help="Hold the conversation of a script (.toml, .py) or of a recording (.jsonl); exit with 1 if something"
                   " is not as expected.")  # fmt: skip
@click.option("--hostile", is_flag=True, help="Show all bad habits of the live API, at random.")
@click.option("--seed", type=int, help="Seed of --hostile's random decisions; by default 0.")
@click.option("--record", metavar="FILE", type=click.Path(path_type=Path),
              help="Write everything that goes over the wire to a file, for --script.")  # fmt: skip
@click.option("--reconnect", is_flag=True,
              help="Begin another conversation when the server ends one, as after each change with se-server --reload.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line, for programs.")
def main(
    url: str,
    access: ServerAccess,
    conversation_id: str | None,
    reply_timeout_s: float | None,
    script: Script | None,
    hostile: bool,
    seed: int | None,
    record: Path | None,
    reconnect: bool,
    as_json: bool,
) -> None:
    """Talk to a Speech Engine server from the terminal, in the API's place.

    URL is the server's WebSocket, by default ws://127.0.0.1:3001/ws. What you type is what the user says; a line typed
    during an answer interrupts it. With input from a pipe every line waits for the answer before it.
    """
    _open_closed_streams()
    try:
        Address.of(url)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    if conversation_id is not None and not conversation_id.strip():
        raise click.BadParameter("it is empty: give an id, or leave it out", param_hint="--conversation-id")
    if seed is not None and not hostile:
        raise click.UsageError("--seed requires --hostile.")
    habits = Habits.hostile(seed or 0) if hostile else None
    try:
        with _recording(record) as file:
            options = ChatOptions(
                url, access, conversation_id, habits, script, reply_timeout_s, file, as_json, reconnect
            )
            exit_code = asyncio.run(converse(options))
    except CallerError as error:
        used = f" (se-chat used {access.key_source})" if error.status == 401 else ""
        complain(f"se-chat: {error}{used}")
        exit_code = 1
    except OutputError as error:
        _give_up_output()
        complain(f"se-chat: cannot write the output: {error}")
        exit_code = 1
    sys.exit(exit_code)


@contextmanager
def _recording(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--record") from None
    try:
        yield file
    finally:
        try:
            file.close()
        except OSError as error:
            raise OutputError(f"the recording: {error.strerror}") from error


def _give_up_output() -> None:
    """Discard the rest of standard output's buffer: the interpreter would fail on it again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main(prog_name="se-chat")
