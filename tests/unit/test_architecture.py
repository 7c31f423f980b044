"""The tree in ARCHITECTURE.md names every module. `python -m tests.unit.test_architecture` writes it.

A module's line is the first sentence of its docstring, or of the comment that opens an included file.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_layers import LAYERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- tree: begin -->\n", "<!-- tree: end -->"
BASES = (ROOT / "src" / "se_server", ROOT / "ext" / "se_server")
WIDTH, COLUMN = 120, 30
COMPILED = {
    f"src/{name}" for name in re.findall(r'^    SRC / "(.*\.py)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
}
MAX_WORDS = 1800
REMEDY = "the tree is out of date: python -m tests.unit.test_architecture writes it"


def first_sentence(source: Path) -> str:
    """Return the first sentence of a source's docstring or opening comment."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".pxi":
        lines = (re.match(r"# ?(.*)", line) for line in text.splitlines())
        opening = " ".join(line[1] for line in iter(lambda: next(lines, None), None) if line)
    else:
        found = re.match(r'(?:#[^\n]*\n)*"""(.*?)(?:"""|\n\n)', text, re.DOTALL)
        opening = found[1] if found else ""
    sentence = re.match(r"(.*?[^.]\.)(?:\s|$)", " ".join(opening.split()))
    assert sentence, f"{source.relative_to(ROOT)} opens with no sentence that says what it is"
    return sentence[1].rstrip(".")


def modules(folder: str) -> list[Path]:
    """Return the sources of a folder of the package, Python's and Cython's together, by name."""
    found = [path for base in BASES for path in (base / folder).glob("*") if path.suffix in (".py", ".pyx", ".pxi")]
    return sorted((path for path in found if path.name != "__init__.py"), key=lambda path: path.name.lstrip("_"))


def folders() -> list[str]:
    """Return the folders of the package, the package itself first."""
    found = {str(path.parent.relative_to(base)) for base in BASES for path in base.rglob("*.py*") if path.is_file()}
    return sorted(name for name in found if "__pycache__" not in name)


def line(indent: int, name: str, meaning: str) -> str:
    first = f"{'  ' * indent}{name}".ljust(COLUMN - 1) + " "
    return textwrap.fill(meaning, WIDTH, initial_indent=first, subsequent_indent=" " * (COLUMN + 2))


def make_tree() -> Iterator[str]:
    for folder in folders():
        depth = 0 if folder == "." else folder.count("/") + 1
        name = "se_server" if folder == "." else folder.rpartition("/")[2]
        yield line(depth, f"{name}/", first_sentence(BASES[0] / folder / "__init__.py"))
        for source in modules(folder):
            star = " *" if source.relative_to(ROOT).as_posix() in COMPILED else ""
            yield line(depth + 1, source.name + star, first_sentence(source))


def halves() -> tuple[str, str, str]:
    """Return the page before the tree, the tree, and the page behind it."""
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    inside, closed, after = rest.partition(END)
    assert found
    assert closed
    return before + found, inside, closed + after


def fenced(lines: Iterator[str]) -> str:
    return "```\n" + "\n".join(lines) + "\n```\n"


def test_the_tree_names_every_module() -> None:
    names = re.compile(r"^ *(\w[\w/.]*)(?: \*)?(?: |$)", re.MULTILINE)
    written = [name for name in names.findall(halves()[1]) if name.endswith(("/", ".py", ".pyx", ".pxi"))]
    expected = [name for name in names.findall(fenced(make_tree())) if name.endswith(("/", ".py", ".pyx", ".pxi"))]
    assert written == expected, REMEDY


def test_the_tree_has_the_modules_docstrings() -> None:
    assert halves()[1] == fenced(make_tree()), REMEDY


def test_the_layers_are_those_of_the_test() -> None:
    found = re.search(r"^```\n(cli,.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found
    written = [set(layer.replace(",", " ").split()) for layer in found[1].split("->")]
    assert written[::-1] == [layer for layer in LAYERS if "speech_engine" not in layer]


def test_the_page_stays_short() -> None:
    before, _, after = halves()
    prose = re.sub(r"^```.*?^```$|^\|.*?$", "", before + after, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= MAX_WORDS


def write() -> None:
    before, _, after = halves()
    PAGE.write_text(before + fenced(make_tree()) + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
