"""Commands that need a checkout: their benchmarks, and the servers they measure against, are not installed."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

import click

__all__ = ["checkout_above", "command_of_checkout"]

_OURS = re.compile(r'^name = "se-server"$', re.MULTILINE)


def checkout_above(folder: Path) -> Path | None:
    """Return the checkout that a folder is in; None if it is in none."""
    for candidate in (folder, *folder.parents):
        try:
            if _OURS.search((candidate / "pyproject.toml").read_text()) and (candidate / "bench").is_dir():
                return candidate
        except OSError:
            continue  # there is none, or it is not ours to read
    return None


def command_of_checkout(name: str, module: str, summary: str) -> click.Command:
    """Return a command that hands its arguments to `main(arguments) -> exit code` of a module below `bench`.

    Args:
        name: of the command.
        module: as in `bench.compare.command`; imported when the command is run.
        summary: its line in the group's help; its own help is the module's.
    """

    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        found = checkout_above(Path.cwd())
        if found is None:
            raise click.ClickException(
                f"{name} measures the servers of a checkout of se-server: clone the repository, and run it in there"
            )
        # The load generators and the servers are processes of their own, and import from there as well.
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(found), *([before] if before else [])])
        sys.path.insert(0, str(found))
        sys.exit(importlib.import_module(module).main(list(arguments)))

    return click.command(
        name,
        short_help=summary,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(run)
