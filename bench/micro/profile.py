"""The distribution of a replay's instructions: callgrind's file as tables in Markdown.

callgrind sees C functions: all Python code is one of them, the interpreter's loop. Instructions of the kernel, in
`send` for example, are not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Profile", "print_profile"]

TOP = 30
ABOVE_THE_LOOP = 0.97
"""Functions with at least this share, such as `main` and the event loop, only lead to the interesting ones."""

_NAME = re.compile(r"\((\d+)\)(?: (.*))?$")
_CYTHON = re.compile(r"__pyx_[a-z]+_(?=\d)")
_SEGMENT = re.compile(r"(\d+)")


@dataclass
class Profile:
    """Instructions by function and by library.

    Attributes:
        libraries: of all functions of a shared object.
        own: of a function itself.
        inclusive: of a function and its callees. Too large for a function that calls itself through others.
    """

    libraries: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    inclusive: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, file: Path) -> Profile:
        """Read callgrind's file; its manual describes the format, which spells a name once and then uses its number."""
        profile, names = cls(), dict[tuple[str, str], str]()
        library = function = ""
        is_call = False  # the next line has the costs of a called function
        for line in file.read_text(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key in ("ob", "fn", "cob", "cfn") and (named := _NAME.match(value)):
                kind, number, name = key[-2:], *named.groups()
                known = names.setdefault((kind, number), name or "")
                if key == "ob":
                    library = known
                elif key == "fn":
                    function = known
            elif key == "calls":
                is_call = True
            elif line[:1] in tuple("0123456789+-*") and len(numbers := line.split()) > 1:
                instructions = int(numbers[1])
                profile.inclusive[function] += instructions
                if not is_call:
                    profile.own[function] += instructions
                    profile.libraries[library] += instructions
                is_call = False
        return profile

    @property
    def total(self) -> int:
        """All instructions."""
        return self.own.total()


def print_profile(profile: Profile, what: str, units: int) -> None:
    """Print the instructions of one unit by library, by function alone, and by function with its callees."""
    total = profile.total

    def table(title: str, rows: list[tuple[str, int]]) -> None:
        print(f"\n| {title} | instructions | share |\n| --- | ---: | ---: |")
        for name, instructions in rows:
            print(f"| {name} | {instructions / units:,.0f} | {instructions / total:.1%} |")

    print(f"Instructions of {what}: {total / units:,.0f}, the mean of {units:,}")
    libraries = Counter[str]()
    for library, instructions in profile.libraries.items():
        libraries[_short(library)] += instructions
    table("library", libraries.most_common(12))
    alone = Counter[str]()
    for name, instructions in profile.own.items():
        alone[readable(name.partition("'")[0])] += instructions  # f'2 is f called through f
    table("function, alone", alone.most_common(TOP))
    inclusive = [
        (readable(name), count)
        for name, count in profile.inclusive.most_common()
        if count < ABOVE_THE_LOOP * total and "'" not in name
    ]
    table("function, with what it calls", inclusive[:TOP])


def _short(library: str) -> str:
    return Path(library).name.partition(".")[0] if library else "?"


def readable(function: str) -> str:
    """Return a function's name; for Cython, as in the source, with module and class.

    Cython writes each part with its length before it, and may number the last: `__pyx_pw_6module_5Class_7method`.
    """
    prefix = _CYTHON.match(function)
    if prefix is None:
        return f"`{function}`"
    rest, parts = function[prefix.end() :], []
    while length := _SEGMENT.match(rest):
        end = length.end() + int(length[1])
        if rest[end : end + 1] != "_" or not rest[end + 1 :]:
            break
        parts.append(rest[length.end() : end])
        rest = rest[end + 1 :]
    return f"`{'.'.join([*parts, *filter(None, [rest.lstrip('0123456789')])])}`"
