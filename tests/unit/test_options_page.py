"""docs/options.md names the options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from se_server.options import options_of
from se_server.server.config.options import OPTIONS
from se_server.server.door.admission import Capacity

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {option.flag for option in OPTIONS if not option.positional}
# Of the command line alone.
MORE = {"--config", "--check", "--print-config", "--help", "--version"}


def flags_in(page: str) -> set[str]:
    """The options that the rows of a page's table are about."""
    rows = re.findall(r"^\| (`--[^|]*) \|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {flag for row in rows for flag in re.findall(r"`(--[a-z-]+)`", row)}


def test_every_option_is_documented() -> None:
    assert FLAGS - flags_in("docs/options.md") == set()


def test_the_operators_page_names_every_limit() -> None:
    limits = {option.flag for option in options_of(Capacity).values()}
    assert limits - flags_in("docs/deploy/operating.md") == set()


@pytest.mark.parametrize("page", ["README.md", "docs/options.md"])
def test_no_other_option_is_documented(page: str) -> None:
    assert flags_in(page)
    assert flags_in(page) - FLAGS - MORE == set()
