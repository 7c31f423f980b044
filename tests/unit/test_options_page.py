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


def test_the_defaults_are_those_of_the_help() -> None:
    by_flag = {option.flag: option for option in OPTIONS}
    rows = re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE)
    wrong = []
    for row, cell in rows:
        flags = [flag for flag in re.findall(r"`(--[a-z-]+)`", row) if flag in by_flag]
        written = cell.replace("`", "").split(", ") if len(flags) > 1 else [cell.replace("`", "")]
        for i, flag in enumerate(flags):
            default = written[i] if len(written) > 1 else written[0]
            expected = by_flag[flag].default_text
            # The help shows no default where that is nothing, or "off".
            if default != expected if expected else default not in ("none", "off", "$ELEVENLABS_API_KEY"):
                wrong.append((flag, default, expected))
    assert not wrong


def test_the_operators_page_names_every_limit() -> None:
    limits = {option.flag for option in options_of(Capacity).values()}
    assert limits - flags_in("docs/deploy/operating.md") == set()


@pytest.mark.parametrize("page", ["README.md", "docs/options.md"])
def test_no_other_option_is_documented(page: str) -> None:
    assert flags_in(page)
    assert flags_in(page) - FLAGS - MORE == set()
