"""The comparison on a terminal, and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.compare.goals import judge
from bench.compare.results import Results
from bench.compare.tables import Cell, Table, Tone, tables, warnings

__all__ = ["markdown", "show", "verdict"]

NAME_COLUMNS = 36
"""Longer texts are sentences, and may be wrapped."""
_STYLES = {Tone.PLAIN: "", Tone.OURS: "bold cyan", Tone.GOOD: "green", Tone.BAD: "bold red"}


def verdict(results: Results) -> tuple[int, str]:
    """Return the exit code, and the sentence that goes with it: 0 all met, 1 some missed, 2 nothing was measured."""
    verdicts = judge(results)
    measured = [found for found in verdicts if found.met is not None]
    if not results.figures:
        return 2, "Nothing was measured."
    if not measured:
        return 0, "No target is about these servers and scenarios."
    missed = [found for found in measured if not found.met]
    met = f"{len(measured) - len(missed)} of {len(measured)} targets are met"
    aimed = sum(found.aimed for found in measured)
    left = len(verdicts) - len(measured)
    rest = f"; {left} not measured" if left else ""
    return (1 if missed else 0), f"{met}, {aimed} of them as far as the aim{rest}."


def conditions(results: Results) -> list[str]:
    """Return the machine and the method, a line each."""
    words, effort = results.machine, results.effort
    virtual = " (a virtual machine)" if words["virtual"] == "yes" else ""
    runs = [
        f"run of {run.made}, commit {run.commit}: {run.repetitions} interleaved repetitions,"
        f" {run.took_s / 60:.1f} minutes"
        for run in results.runs
    ]
    return [
        f"{words['processor']}, {words['cores']} cores{virtual}, {words['memory']}, {words['kernel']}; {results.made}",
        ", ".join(f"{name} {number}" for name, number in results.versions.items()),
        *runs,
        f"{effort['measured_s']:g} s a measurement, {results.took_s / 60:.1f} minutes in all",
    ]


# --- on a terminal --------------------------------------------------------------------------------------------------


def show(results: Results, console: Console) -> None:
    """Print everything."""
    for line in conditions(results):
        console.print(Text(line, "dim"))
    for table in tables(results):
        console.print()
        console.print(_rich(table))
        if table.note:
            console.print(Text(f"  {table.note}", "dim"))
    console.print()
    for sentence in warnings(results):
        console.print(Text(f"! {sentence}", "yellow"))
    code, sentence = verdict(results)
    console.print(Text(sentence, "bold red" if code else "bold green"))


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    is_narrow = all(len(row[0].text) < NAME_COLUMNS for row in table.rows)
    for number, header in enumerate(table.headers):
        shown.add_column(
            header, justify="left" if number == 0 else "right", vertical="top", no_wrap=number == 0 and is_narrow
        )
    for row in table.rows:
        shown.add_row(*(_rich_cell(cell, with_small=not table.is_long) for cell in row))
    return shown


def _rich_cell(cell: Cell, *, with_small: bool) -> Text:
    text = Text(cell.text, _STYLES[cell.tone])
    if cell.small and with_small:
        text.append(f"\n{cell.small}", "dim")
    return text


# --- as a page ------------------------------------------------------------------------------------------------------


def markdown(results: Results, charts: Mapping[str, str]) -> str:
    """Return the page; `charts` are the titles of the pictures beside it, by file name."""
    _, sentence = verdict(results)
    parts = [
        "# What a turn costs",
        "\n".join(f"* {line}" for line in conditions(results)),
        f"**{sentence}** Made by `se-bench compare`; [how it measures](../../README.md).",
    ]
    if said := warnings(results):
        parts.append("\n".join(f"* {warning}" for warning in said))
    found = [_markdown(table) for table in tables(results)]
    parts += [*found[:1], *(f"![{title}]({name})" for name, title in charts.items()), *found[1:]]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [
        f"## {table.title}",
        "",
        _line(table.headers),
        _line(["---", *["---:"] * (len(table.headers) - 1)]),
        *(_line(map(_markdown_cell, row)) for row in table.rows),
    ]
    return "\n".join([*lines, *(["", table.note] if table.note else [])])


def _line(cells: Sequence[str] | map[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.tone in (Tone.OURS, Tone.BAD) else cell.text
    small = cell.small.replace("\n", "; ")
    return f"{text}<br><sub>{small}</sub>" if small else text
