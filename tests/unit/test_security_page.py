"""SECURITY.md: each promise in a table has a test, and each test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def known_tests() -> frozenset[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.update(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    return frozenset(found)


def promises() -> list[list[str]]:
    """Return the cells of every row of the tables whose last column is a test."""
    rows: list[list[str]] = []
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[-1] == "test":
            inside = True
        elif inside and not set(line) <= set("|- "):
            rows.append(cells)
    return rows


def test_each_named_test_exists() -> None:
    missing = [name for name in re.findall(r"`(test_\w+)`", TEXT) if name not in known_tests()]
    missing += [path for path in re.findall(r"`(tests/[\w/]+\.py)`", TEXT) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("row", promises(), ids=lambda row: row[0][:40])
def test_each_promise_has_a_test(row: list[str]) -> None:
    assert re.search(r"`(test_\w+|tests/[\w/]+\.py)`", row[-1]), row


def test_there_are_promises() -> None:
    assert len(promises()) > 25
