"""Words of a command line that stand in the wrong place, and the sentences that put them right."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import click

from se_server.options import is_like_key
from se_server.server.config.scripts import MAIN
from se_server.server.config.scripts import WORD as RUN
from se_server.spelling import nearest

_ONE_DASH = re.compile(r"-([a-z][a-z-]+)(?:=.*)?", re.DOTALL)
_EXTRA = re.compile(r"got unexpected extra arguments? \((.*)\)", re.IGNORECASE | re.DOTALL)
_FLAGS = ("--check", "--print-config", "--print-schema", "--help", "--version", "--reload", "--playground")
_OF_SE_CTL = ("status", "stop", "drain", "scale", "conversations", "turns", "stacks")
_SERVE = ("serve", "start")


def check_words(args: Sequence[str], options: Iterable[click.Parameter], context: click.Context) -> None:
    """Refuse an option with one dash, and a value that is the next option.

    Raises:
        NoSuchOption: `-host`, which click reads as `-h`, and shows its help.
        UsageError: `--api-key --host`: the first has no value.
    """
    declared = [option for option in options if isinstance(option, click.Option)]
    longs = {name for option in declared for name in option.opts if name.startswith("--")}
    takes_value = {name for option in declared if not option.is_flag for name in option.opts}
    previous = ""
    for word in args:
        if word == "--":
            return
        single = _ONE_DASH.fullmatch(word)
        if previous in takes_value:
            if word.partition("=")[0] in longs:
                raise click.UsageError(f"{previous} needs a value, and {word.partition('=')[0]} follows", context)
            previous = ""
            continue
        if single is not None and word[:2] not in takes_value:
            raise click.NoSuchOption(word.partition("=")[0], ctx=context)
        previous = word


def about_app(app: str) -> str:
    """Return a sentence on a word that is no APP; empty if it may be one."""
    known = (RUN, *_OF_SE_CTL, *_SERVE, *(flag[2:] for flag in _FLAGS))
    if app not in known or _is_module(app):
        return ""
    if app == RUN:
        return f"{RUN} needs a program that calls serve(): se-server {RUN} script.py"
    if app in _OF_SE_CTL:
        return f"there is no module {app!r} to serve; se-ctl {app} is the command for a server that runs"
    if app in _SERVE:
        return f"{app!r} is not a command: se-server agent.py serves agent.py"
    return f"there is no module {app!r} to serve; did you mean --{app}?"


def about_extra(message: str, given: Mapping[str, object], words: Sequence[str]) -> str:
    """Return a sentence on a second APP; empty if the message is about something else.

    Args:
        message: that of click.
        given: the parameters that were read: the first of the words is the APP.
        words: the command line.
    """
    found = _EXTRA.search(message)
    app = str(given.get("app") or "")
    if found is None or app not in words:
        return ""
    extra = next((word for word in words[words.index(app) + 1 :] if found[1].startswith(word)), found[1])
    if app == RUN:
        return _about_run(extra, words)
    if app in _SERVE and not _is_module(app):
        return f"{app!r} is not a command: se-server {extra} serves {extra}"
    hint = nearest(app, (*_FLAGS, f"--{RUN}", "--new")).removesuffix("?") if app.isidentifier() else ""
    flag = hint.rpartition(" ")[2] if "did you mean" in hint and not _is_module(app) else ""
    if flag in (f"--{RUN}", "--new"):
        return f"{app!r} is not a command; did you mean se-server {flag[2:]} {extra}?"
    if flag:
        return f"{app!r} is not a command; did you mean se-server {extra} {flag}?"
    shown = ["the text given" if is_like_key(word) else repr(word) for word in (app, extra)]
    return f"one APP is served, and two are named, {shown[0]} and {shown[1]}: leave one out; arguments of a program" + (
        f" come after `se-server {RUN} FILE --`"
    )


def _about_run(extra: str, words: Sequence[str]) -> str:
    place = words.index(extra) if extra in words else len(words)
    options = words[words.index(RUN) + 1 : place]
    if extra.endswith(".py") and options:
        return f"the program comes directly after {RUN}: se-server {RUN} {extra} {' '.join(options)} ..."
    if os.path.isdir(extra):
        found = next((path for path in sorted(Path(extra).glob("*.py")) if path.stem != "__init__"), None)
        way_out = "add one" if found is None else f"name the program, such as se-server {RUN} {found}"
        return f"{RUN} needs a program: {extra} is a directory without {MAIN}; {way_out}"
    if ":" in extra:
        return f"{RUN} needs a file, and {extra!r} names an object in a module: se-server {extra} serves it"
    if extra.replace(".", "").isidentifier() and _is_module(extra.partition(".")[0]):
        return f"{RUN} needs a file, and there is none called {extra!r}: se-server {RUN} -m {extra} runs the module"
    return f"{RUN} needs a file, and there is none called {extra!r}: se-server {RUN} script.py"


def _is_module(name: str) -> bool:
    """Whether an APP has this name: a module in the working directory, or an installed one."""
    here = [str(Path.cwd())]
    return PathFinder.find_spec(name, here) is not None or (name != RUN and PathFinder.find_spec(name) is not None)
