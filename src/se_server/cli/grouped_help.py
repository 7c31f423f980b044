"""A click command whose `--help` lists its options under headings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from se_server.cli.commands import PlainCommand


class GroupedCommand(PlainCommand):
    """A command whose options are listed under headings.

    Args:
        groups: the heading of each parameter, by name. Headings are listed in the order in which they first occur;
            parameters without a heading come under the last one.
    """

    def __init__(self, *args: Any, groups: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in self._groups.values()}
        last = list(sections)[-1]
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections[self._groups.get(parameter.name or "", last)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
