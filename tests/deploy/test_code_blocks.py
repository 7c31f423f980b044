"""Code blocks of the pages are whole: each is read by the parser of its language."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from se_server.server.config.config import tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """Return the blocks of some languages with their place."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found[2] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{page.relative_to(ROOT)}:{line}", textwrap.dedent(found[3])


def test_the_pages_have_blocks() -> None:
    assert len(list(blocks("python", "py"))) > 20
    assert len(list(blocks("sh", "bash"))) > 10


@pytest.mark.parametrize(("place", "code"), list(blocks("python", "py")), ids=lambda value: value[:60])
def test_python_is_valid(place: str, code: str) -> None:
    compile(code, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize(("place", "code"), list(blocks("sh", "bash")), ids=lambda value: value[:60])
def test_shell_is_valid(place: str, code: str) -> None:
    ran = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), place


@pytest.mark.parametrize(("place", "code"), list(blocks("yaml", "toml", "json")), ids=lambda value: value[:60])
def test_data_is_valid(place: str, code: str) -> None:
    readers = [json.loads, tomllib.loads, lambda text: list(yaml.safe_load_all(text))]
    failures = []
    for read in readers:
        try:
            read(code)
            return
        except (ValueError, yaml.YAMLError) as error:
            failures.append(str(error))
    raise AssertionError(f"{place}: {failures}")
