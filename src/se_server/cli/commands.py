"""Click commands whose mistakes are one sentence: the fault, and what was probably meant."""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from se_server.cli.misplaced import check_words
from se_server.errors import without_keys
from se_server.spelling import nearest

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""The `context_settings` of all commands."""

_VALUE = re.compile(r"^Invalid value for (?:'-\w' / )?'?\[?([^':\]]+)\]?'?: ")
_NO_INTEGER, _NO_FLOAT = re.compile("a valid integer( range)?"), re.compile("a valid float( range)?")

_NO_VALUE = re.compile(r"option '(-[\w-]+)' requires an argument")
_RANGE = re.compile(
    r"is not in the range (?:(?P<low>[\d.]+)(?P<opens><=?)x(?:<=?(?P<high>[\d.]+))?|x(?P<above>>=?)(?P<least>[\d.]+))"
)


class PlainCommand(click.Command):
    """A command that reports a mistake on its command line in one line."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command; click calls it with the arguments of the process."""
        return _main(super().main, standalone_mode, args, extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        check_words(args, self.get_params(ctx), ctx)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # a missing value has none
            raise


class PlainGroup(click.Group):
    """A group of such commands. Without arguments it shows them."""

    command_class = PlainCommand

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command that the arguments name."""
        return _main(super().main, standalone_mode, args, extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments before the command's name; without any, show the commands."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(EXIT_USAGE)
        return super().parse_args(ctx, self._group_options_first(ctx, args))

    def _group_options_first(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move options of the group before the command's name: `se-ctl status --socket x` is understood."""
        own = {name for option in self.params if isinstance(option, click.Option) for name in option.opts}
        place = next((place for place, word in enumerate(args) if self.get_command(ctx, word) is not None), len(args))
        first, rest, moved = args[:place], args[place:], []
        for name in own:
            while name in rest and rest.index(name) + 1 < len(rest):
                at = rest.index(name)
                moved += rest[at : at + 2]
                del rest[at : at + 2]
        return [*first, *moved, *rest]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"there is no command {name!r}{nearest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


def complain(text: str) -> None:
    """Write an error to stderr, on a terminal wrapped between words, without keys that stand in a wrong place."""
    click.echo(fitted(without_keys(text), sys.stderr), err=True)


def fitted(text: str, out: TextIO, indent: str = "  ") -> str:
    """Return a sentence in rows of the terminal's width, or as one line for another output.

    Args:
        indent: the beginning of the rows after the first.
    """
    if not out.isatty():
        return text
    columns = max(20, shutil.get_terminal_size().columns - 1)
    return textwrap.fill(text, columns, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def sentence_of(error: click.ClickException) -> str:
    """Return an error of click as one sentence, with the command whose help has more."""
    context = getattr(error, "ctx", None)
    path = "" if context is None else context.command_path
    if isinstance(error, click.NoSuchOption):
        known: Sequence[str] = [] if context is None else _options_of(context)
        for metavar in _arguments_called(error.option_name, context):
            return f"{metavar} is given without an option: {path} {metavar}"
        for name in _commands_with(error.option_name, context):
            return f"{error.option_name} comes after the command, as in {path} {name} {error.option_name}"
        return f"there is no option {error.option_name}{nearest(error.option_name, known, f'{path} --help')}"
    text = " ".join(error.format_message().split()).removesuffix(".")
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        text = _NO_FLOAT.sub("a number", _NO_INTEGER.sub("a whole number", _VALUE.sub(r"\1: ", text)))
        return _RANGE.sub(_range_in_words, text)
    text = _NO_VALUE.sub(r"\1 needs a value", text[:1].lower() + text[1:])
    has_way_out = "; " in text or not path or not isinstance(error, click.UsageError)
    return text if has_way_out else f"{text}; see {path} --help"


def _range_in_words(found: re.Match[str]) -> str:
    low, opens, high = found["low"] or found["least"], found["opens"] or found["above"], found["high"]
    words = f"above {low}" if opens in ("<", ">") else f"{low} or more" if high is None else f"{low}"
    return f"is out of range: expected {words}" + ("" if high is None else f" to {high}")


def _options_of(context: click.Context) -> list[str]:
    return [
        name
        for parameter in context.command.get_params(context)
        if isinstance(parameter, click.Option)
        for name in parameter.opts
        if name.startswith("--")
    ]


def _arguments_called(option: str, context: click.Context | None) -> list[str]:
    """Return the placeholder of the argument that an option's name means, if there is one."""
    parameters = [] if context is None else context.command.get_params(context)
    own = [each for each in parameters if isinstance(each, click.Argument) and each.name == option.lstrip("-")]
    return [str(each.name).upper() for each in own]


def _commands_with(option: str, context: click.Context | None) -> list[str]:
    """Return the commands of a group that have an option; none for a command."""
    if context is None or not isinstance(context.command, click.Group):
        return []
    group = context.command
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    shown = [(name, each) for name, each in found if each is not None and not each.hidden]
    return [name for name, each in shown if option in _options_of(click.Context(each))]


def _main(run: Callable[..., Any], standalone_mode: bool, args: tuple[Any, ...], extra: dict[str, Any]) -> Any:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 ends no command
            stream.reconfigure(errors="replace")
    if not standalone_mode:
        return run(*args, standalone_mode=False, **extra)
    try:
        code = run(*args, standalone_mode=False, **extra)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context is not None else extra.get("prog_name") or Path(sys.argv[0]).name
        complain(f"{name}: {sentence_of(error)}")
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
