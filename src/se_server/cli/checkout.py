"""Commands that need a checkout, because their benchmarks are not installed."""

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
    """Return the checkout that contains a folder; None if there is none."""
    for candidate in (folder, *folder.parents):
        try:
            if _OURS.search((candidate / "pyproject.toml").read_text()) and (candidate / "bench").is_dir():
                return candidate
        except OSError:
            continue  # missing or unreadable
    return None


def command_of_checkout(name: str, module: str, summary: str) -> click.Command:
    """Return a command that passes its arguments to `main(arguments) -> exit code` of a module below `bench`.

    Args:
        name: the command's name.
        module: the module, such as `bench.compare.command`; imported when the command runs.
        summary: its line in the group's help; its own help is the module's.
    """

    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        found = checkout_above(Path.cwd())
        if found is None:
            raise click.ClickException(
                f"{name} measures the servers of a checkout of se-server: clone the repository, and run it in there"
            )
        # The load generators and servers are separate processes and import from there, too.
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
