"""docs/streams.md has the rows that are proved with the real packages."""

from __future__ import annotations

from tests.llm.page import halves, table
from tests.llm.rows import all_rows


def test_page_has_the_rows() -> None:
    _, inside, _ = halves()
    assert inside == table(), "run `python -m tests.llm page`"


def test_names_of_rows_are_unique() -> None:
    names = [row.name for row in all_rows()]
    assert len(names) == len(set(names))
