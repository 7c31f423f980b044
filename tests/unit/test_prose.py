"""Comments and docstrings are plain sentences: hardly any opens with a free relative clause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "ext", "bench", "tests")
SUFFIXES = (".py", ".pyi", ".pyx", ".pxd", ".pxi")
MAX_SHARE = 0.01
# A question may open with these words.
FREE_RELATIVE = re.compile(r"(what|who|whom|whose|whoever|whatever|where|how)\b(?!.*\?$)", re.IGNORECASE)
COMMENT = re.compile(r"^(.*?)(?<![\"'\w])#:? (.*)$")
DOCSTRING = re.compile(r'^\s*[rf]?"""(.*?\S.*?)(?:"""|$)')


def read_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the first line of each comment and docstring; lines of one comment count once."""
    commented = -1
    for number, line in enumerate(text.splitlines(), 1):
        if docstring := DOCSTRING.match(line):
            yield number, docstring[1].strip()
        elif (comment := COMMENT.match(line)) and line.count('"', 0, comment.start(2)) % 2 == 0:
            is_alone = not comment[1].strip()
            if not (is_alone and commented == number - 1):
                yield number, comment[2].strip()
            commented = number if is_alone else -1


def test_hardly_any_prose_opens_with_a_relative() -> None:
    total, found = 0, []
    for folder in FOLDERS:
        for source in sorted((ROOT / folder).rglob("*")):
            if source.suffix in SUFFIXES:
                for number, line in read_prose(source.read_text(encoding="utf-8")):
                    total += 1
                    if FREE_RELATIVE.match(line):
                        found.append(f"{source.relative_to(ROOT)}:{number}: {line}")
    assert total > 3000
    assert len(found) <= MAX_SHARE * total, f"{len(found)} of {total}:\n" + "\n".join(found)


def test_comments_and_docstrings_are_found() -> None:
    lines = [
        '"""Module."""',
        "# Two lines",
        "# of one comment.",
        'x = 1  # Beside code; "quoted" is fine.',
        "# Where is it?",
        'url = "a # no comment"',
        "def f():",
        '    """',
        '    r"""Raw."""',
    ]
    prose = [line for _, line in read_prose("\n".join(lines))]
    assert prose == ["Module.", "Two lines", 'Beside code; "quoted" is fine.', "Where is it?", "Raw."]
    assert [bool(FREE_RELATIVE.match(line)) for line in ("What it does", "Where is it?", "However", "Return what")] == [
        True,
        False,
        False,
        False,
    ]
