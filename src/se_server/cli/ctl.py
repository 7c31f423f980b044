"""`se-ctl`: inspect and control a running se-server."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from se_server.cli.commands import SETTINGS, PlainGroup, complain, sentence_of
from se_server.cli.ctl_figures import figure_lines, turns_json, turns_view
from se_server.cli.ctl_recordings import as_test_of, one_of
from se_server.cli.ctl_tables import (
    console,
    conversations_json,
    conversations_view,
    keys_view,
    printable,
    show,
    silence,
    status_view,
    width,
)
from se_server.cli.ctl_wire import SHOWN_CHARACTERS, VARIABLE, CtlError, ask, find_socket
from se_server.errors import CallerError

WATCH_S = 1.0
WATCHED = 60
"""Answers of `status --watch` that are kept: its turns are those of a minute."""
EXIT_FAILED, EXIT_USAGE = 1, 2


@click.group(cls=PlainGroup, context_settings=SETTINGS)
@click.option(
    "--socket",
    "path",
    metavar="PATH",
    help=f"The server's control socket.  [default: ${VARIABLE}, or your only server's]",
)
@click.pass_context
def command(context: click.Context, path: str | None) -> None:
    """Inspect and control a running se-server.

    WORKER is the number or the process id of a worker. Exit codes: 0 done, 1 refused or not reached, 2 a wrong option.
    """
    context.obj = functools.partial(find_socket, path, os.environ)


def _warn_of_name(former: str, name: str) -> None:
    print(f"se-ctl: {former} is called {name} now; the former name will go", file=sys.stderr)


def _as_json(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer, indent=2))


@command.command(short_help="Show the workers and their load.")
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl+C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object per line.")
@click.pass_obj
def status(find: Callable[..., str], watch: bool, as_json: bool) -> None:
    """Show the workers: state, age, conversations, turns, loop lag, memory."""
    path = find(None if as_json else lambda _: True)
    if not watch:
        answer = ask(path, "status")
        _as_json(answer) if as_json else show(status_view(answer, figure_lines(answer)))
    elif as_json:
        while True:
            print(json.dumps(ask(path, "status")), flush=True)
            time.sleep(WATCH_S)
    elif not sys.stdout.isatty():  # as in a pipe, or by kubectl exec without -t
        for view in _watched(path):
            show(view)
            sys.stdout.flush()
    else:
        from rich.live import Live

        views = _watched(path)
        with Live(next(views), console=console(), auto_refresh=False, screen=True) as live:
            for view in views:
                live.update(view, refresh=True)


def _watched(path: str) -> Iterator[Any]:
    """Yield the view of the status every second; its turns are those of the last minute."""
    answers = deque([ask(path, "status")], maxlen=WATCHED)
    yield status_view(answers[0], figure_lines(answers[0]))
    while True:
        time.sleep(WATCH_S)
        answers.append(ask(path, "status"))
        yield status_view(answers[-1], figure_lines(answers[-1], answers[0]))


@command.command(short_help="Drain a worker, and start another one in its place.")
@click.argument("worker", type=int, required=False)
@click.option("--yes", is_flag=True, hidden=True)
@click.pass_obj
def drain(find: Callable[..., str], worker: int | None, yes: bool) -> None:
    """Drain a worker, and start another one in its place. Its conversations go on, for --reload-drain-timeout-s."""
    if worker is not None:
        print(ask(find(), "drain", worker)["done"])
    elif yes:
        _warn_of_name("drain --yes", "stop --yes")
        print(ask(find(), "drain")["done"])
    else:
        raise click.UsageError("drain needs a WORKER, whose number se-ctl status shows; se-ctl stop ends the server")


@command.command(short_help="Drain and end the whole server.")
@click.option("--yes", is_flag=True, help="Do not ask; in scripts nobody is asked.")
@click.pass_obj
def stop(find: Callable[..., str], yes: bool) -> None:
    """Drain and end the whole server, as SIGTERM does. Conversations go on, for --drain-timeout-s."""
    path = find()
    if not yes and sys.stdin.isatty():
        click.confirm(f"This ends the whole server at {path}. Continue?", abort=True)
    print(ask(path, "drain")["done"])


@command.command()
@click.pass_obj
def reload(find: Callable[..., str]) -> None:
    """Reload options and APP without interrupting conversations."""
    print(ask(find(), "reload")["done"])


@command.command("reopen-log", short_help="Reopen the log file after a rotation.")
@click.pass_obj
def reopen_log(find: Callable[..., str]) -> None:
    """Reopen the log file in all processes, as SIGUSR1 does. Returns when all of them write to the new file."""
    answer = ask(find(), "reopen-log")
    faults = [f"worker {place} (pid {pid}) {problem}" for place, pid, problem in answer["rows"]]
    if answer["silent"]:
        faults.append(silence(answer))
    if faults:
        raise CtlError("; ".join(faults))
    print("all processes write to the new log file")


@command.command()
@click.argument("workers", type=int)
@click.pass_obj
def scale(find: Callable[..., str], workers: int) -> None:
    """Set the number of workers."""
    print(ask(find(), "scale", workers)["done"])


@command.command(short_help="List the conversations.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def conversations(find: Callable[..., str], as_json: bool) -> None:
    """List the conversations: id, worker, age, and the state of their turn."""
    answer = ask(find(None if as_json else lambda _: True), "calls")
    _as_json(conversations_json(answer)) if as_json else show(conversations_view(answer))


@command.command(short_help="Show the API keys by their fingerprints.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def keys(find: Callable[..., str], as_json: bool) -> None:
    """Show the API keys that each route accepts, by the fingerprints that the log shows, and where they come from.

    A reload reads key files again; the keys are shown once its workers serve.
    """
    answer = ask(find(None if as_json else lambda _: True), "keys")
    _as_json({"keys": answer["rows"]}) if as_json else show(keys_view(answer))


@command.command(hidden=True)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def calls(context: click.Context, as_json: bool) -> None:
    """List the conversations, by the former name of the command."""
    _warn_of_name("calls", "conversations")
    context.invoke(conversations, as_json=as_json)


@command.command(short_help="Show the slowest turns, part by part.")
@click.option("--slow", "count", metavar="N", type=click.IntRange(1, 200), default=20, show_default=True,
              help="How many.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def turns(find: Callable[..., str], count: int, as_json: bool) -> None:
    """Show the turns of the last hour whose first text took longest, and where the time went; needs --admin."""
    answer = ask(find(None if as_json else lambda server: bool(server["admin"])), "turns", count)
    _as_json(turns_json(answer)) if as_json else show(turns_view(answer, width()))


@command.command(short_help="Write the recording of a conversation.")
@click.argument("conversation")
@click.option("--as-test", is_flag=True, help="Print a pytest test that replays it.")
@click.option("--to", "folder", metavar="DIR", type=click.Path(file_okay=False),
              help="With --as-test: put the test and a copy of the recording there.")  # fmt: skip
@click.option("--force", is_flag=True, help="With --to: overwrite a test that you have changed.")
@click.option("--nth", metavar="N", type=click.IntRange(1),
              help="Of several recordings, take this one; 1 is the oldest.  [default: the newest]")  # fmt: skip
@click.pass_obj
def record(
    find: Callable[..., str], conversation: str, as_test: bool, folder: str | None, force: bool, nth: int | None
) -> None:
    """Write the recording of a conversation, open or ended, and print its path; needs --record.

    CONVERSATION is its id, or the beginning of it if only one conversation has such an id. A conversation that
    reconnected has several recordings: standard error lists them.
    """
    if folder is not None and not as_test:
        raise click.UsageError("--to is for --as-test")
    if force and folder is None:
        raise click.UsageError("--force is for --to")
    (answer,) = ask(find(), "record", conversation)["rows"]
    path = one_of(answer.get("paths", [answer["path"]]), nth)
    print(as_test_of(path, folder, force) if as_test else printable(path))


@command.command(short_help="Remove all that is kept of a conversation.")
@click.argument("conversation")
@click.pass_obj
def forget(find: Callable[..., str], conversation: str) -> None:
    """Remove what is kept of a conversation, in memory and in --record-dir. CONVERSATION is its whole id."""
    (answer,) = ask(find(), "forget", conversation)["rows"]
    count = answer["recordings"]
    print(f"forgotten: {count} recording{'' if count == 1 else 's'} removed, and what was in memory")


@command.command(short_help="Close a conversation.")
@click.argument("conversation")
@click.pass_obj
def close(find: Callable[..., str], conversation: str) -> None:
    """Close a conversation by its id, or by the beginning of it if only one conversation has such an id."""
    answer = ask(find(), "close", conversation)
    if not answer["rows"]:
        about = f" ({silence(answer)})" if answer["silent"] else ""
        raise CtlError(f"there is no conversation {printable(conversation)[:SHOWN_CHARACTERS]}{about}")
    count = len(answer["rows"]) + answer["left_out"]
    print(f"closed {printable(answer['rows'][0][2])}" + (f", {count} of them" if count > 1 else ""))


@command.command(short_help="Show the stacks of a worker, even if it hangs.")
@click.argument("worker", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def stacks(find: Callable[..., str], worker: int, as_json: bool) -> None:
    """Show the stacks of a worker's threads and tasks, even if it hangs."""
    answer = ask(find(), "stacks", worker)
    if as_json:
        _as_json({"worker": worker, "stacks": [line for _, _, line in answer["rows"]]})
    else:
        for _, _, line in answer["rows"]:
            print(printable(line).replace(", called from ", "\n    called from "))
    if answer["silent"]:
        raise CtlError(f"worker {worker} did not reply: it is stopped, or in C code that holds the GIL")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        given = None if arguments is None else list(arguments)
        code = command.main(given, prog_name="se-ctl", standalone_mode=False)
    except (CtlError, CallerError) as error:
        complain(f"se-ctl: {error}")
        return EXIT_FAILED
    except click.ClickException as error:
        complain(f"se-ctl: {sentence_of(error)}")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:  # head(1) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
