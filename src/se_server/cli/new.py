"""`se-server new DIR`: write a starting project, with an agent, its test and a Dockerfile."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from se_server.errors import ConfigError

if TYPE_CHECKING:
    import click

    from se_server.cli.starter import Llm


def is_wanted(words: Sequence[str]) -> bool:
    """Return whether a command line of `se-server` is for this command; `new` may also be an APP's module."""
    if words[:1] != ["new"]:
        return False
    return len(words) == 1 or not words[1].startswith("-") or words[1] in ("-h", "--help", "--llm")


def command() -> click.Command:
    """Make the click command."""
    import click

    from se_server.cli.commands import PlainCommand
    from se_server.cli.starter import LLMS

    @click.command("new", cls=PlainCommand, context_settings={"help_option_names": ["-h", "--help"]})
    @click.argument("directory", metavar="DIR")
    @click.option("--llm", type=click.Choice(list(LLMS)), default="openai", show_default=True, help="The model's API.")
    def new(directory: str, llm: str) -> None:
        """Write a starting project into DIR: an agent, its test, pyproject.toml and a Dockerfile."""
        if not directory.strip():
            raise click.UsageError("the name of the directory is empty: give one, such as my-agent")
        folder = Path(directory)
        if not folder.resolve().name:
            raise click.UsageError("a project needs a directory of its own, such as my-agent")
        names = write_project(folder, LLMS[llm])
        click.echo(f"wrote {folder}: {', '.join(names)}")
        click.echo(
            f"  cd {shlex.quote(str(folder))}\n"
            f"  python3 -m venv .venv && .venv/bin/pip install {installed_from()}-e '.[dev]'\n"
            "  .venv/bin/pytest                        # needs no key\n"
            f"  {LLMS[llm].key}=... .venv/bin/se-server agent.py --playground"
        )

    return new


def installed_from() -> str:
    """Return the path from which se-server was installed, as an argument; empty if it came from a package index."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        text = distribution("se-server").read_text("direct_url.json")  # PEP 610
        url = urlsplit(json.loads(text or "{}").get("url", ""))
    except (PackageNotFoundError, ValueError, AttributeError):
        return ""
    path = unquote(url.path)
    return shlex.quote(path) + " " if url.scheme == "file" and Path(path).exists() else ""


def main(arguments: Sequence[str]) -> int:
    """Write the project and print the next steps; returns the exit code.

    Raises:
        ConfigError: the arguments are wrong, or the directory cannot be written or has such files.
    """
    import click

    from se_server.cli.commands import sentence_of

    try:
        command().main(list(arguments), prog_name="se-server new", standalone_mode=False)
    except click.ClickException as error:
        raise ConfigError(sentence_of(error)) from None
    return 0


def write_project(folder: Path, llm: Llm) -> list[str]:
    """Write the files of a starting project, none of which may exist; return their names.

    Raises:
        ConfigError: one exists, or the directory cannot be written.
    """
    from se_server.cli.starter import project_files

    files = project_files(folder.resolve().name, llm, installed_from())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            if (folder / name).exists() or (folder / name).is_symlink():
                raise ConfigError(f"{folder / name} exists, and is not overwritten: name another directory")
        for name, text in files.items():
            with open(folder / name, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    return list(files)
