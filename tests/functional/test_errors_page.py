"""`docs/errors.md` has the sentences of all modules as they are."""

from __future__ import annotations

from tests.unit.test_errors_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.unit.test_errors_page"
