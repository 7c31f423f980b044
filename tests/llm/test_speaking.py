"""Each row's object is spoken: the caller hears exactly its text, or the error says why not."""

from __future__ import annotations

import pytest

from tests.llm.rows import Row, all_rows
from tests.llm.stage import speak
from tests.providers import Provider

ROWS = [row for row in all_rows() if row.is_installed]
by_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


@by_row
async def test_caller_hears_exactly_the_text(row: Row, provider: Provider) -> None:
    heard = await speak(row, provider)
    assert heard.verdict(row) == ("refused" if row.is_refused else "right"), heard
    # No request may run on, whatever was refused.
    assert provider.open == []
