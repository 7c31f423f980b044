"""Writes the table in docs/streams.md from the rows."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.llm.rows import Row, all_rows

PAGE = Path(__file__).parents[2] / "docs/streams.md"
BEGIN = "<!-- begin: python -m tests.llm page -->\n"
END = "<!-- end -->\n"


def table() -> str:
    """Return the tables of all packages, each under its heading."""
    parts = []
    for package, rows in groupby(all_rows(), key=lambda row: row.package):
        parts.append(f"### {package}\n\n| passed | spoken | closed by | notes |\n| --- | --- | --- | --- |\n")
        parts += [f"| {' | '.join(cells_of(row))} |\n" for row in rows]
        parts.append("\n")
    return "\n" + "".join(parts)


def cells_of(row: Row) -> tuple[str, str, str, str]:
    """Return the cells of a row."""
    passed = row.passed.replace("|", "\\|")
    is_code = "`" not in passed and not passed.startswith(WORDS)
    spoken = "refused" if row.is_refused else "the text"
    note = f"The error says `{row.error}`." if row.is_refused and not row.note else row.note
    return f"`{passed}`" if is_code else passed, spoken, row.closed_by or "-", note


# Rows that are described instead of written.
WORDS = ("a ", "an ", "texts ", "events ", "the ", "NDJSON ", "AsyncOpenAI(base_url")


def halves() -> tuple[str, str, str]:
    """Return the page before the table, the table, and the page behind it."""
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    inside, closed, after = rest.partition(END)
    assert found
    assert closed
    return before + found, inside, closed + after


def write_page() -> Path:
    """Write the table between its marks; return the page's path."""
    before, _, after = halves()
    PAGE.write_text(before + table() + after, encoding="utf-8")
    return PAGE
