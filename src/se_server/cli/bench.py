"""`se-bench`: put load on any server, and measure this one. Commands are imported lazily."""

from __future__ import annotations

import importlib
from typing import Any

import click

from se_server.cli.checkout import command_of_checkout
from se_server.cli.commands import SETTINGS, PlainGroup

__all__ = ["main"]

_LAZY = {
    "load": ("se_server.cli.load", "Put load on any Speech Engine server, and report how it copes."),
    "capacity": ("se_server.cli.capacity", "Find how many conversations one server carries."),
}
"""Maps each command to its module, which has it as `command`, and to its line in the help."""

_OF_CHECKOUT = (
    ("compare", "bench.compare.command", "Measure this server next to its peers and the bare machine."),
    ("micro", "bench.micro.command", "Measure single parts, or count their instructions."),
    ("scaling", "bench.compare.scaling", "Work out the capacity of a core, a node and a fleet."),
)
"""(name, module, line in the help) of the commands that measure a checkout."""


class LazyGroup(PlainGroup):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in display order."""
        return [*_LAZY, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        found: Any = importlib.import_module(_LAZY[cmd_name][0])
        return found.command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        rows = [(name, summary) for name, (_, summary) in _LAZY.items()]
        rows += [(name, found.get_short_help_str(limit=100)) for name, found in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings=SETTINGS)
def command() -> None:
    """Put load on a Speech Engine server, or measure this one against others."""


for _row in _OF_CHECKOUT:
    command.add_command(command_of_checkout(*_row))


def main() -> None:
    """Run the command."""
    command(prog_name="se-bench")


if __name__ == "__main__":
    main()
