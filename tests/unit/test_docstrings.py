"""Every public name has a docstring where editors look: at run time, and in the stubs of extensions."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
from pathlib import Path
from typing import get_origin

import pytest

import se_server

SRC = Path(__file__).resolve().parents[2] / "src"
MODULES = [
    "se_server",
    "se_server.client",
    "se_server.speech_engine",
    *(f"se_server.speech_engine.{name}" for name in ("session", "resource", "server", "types", "session_types")),
]


@pytest.mark.parametrize("module", MODULES)
def test_public_names_and_methods_have_docstrings(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    bare = []
    for name in loaded.__all__:
        value = getattr(loaded, name)
        if get_origin(value):  # An alias, which Python 3.10 takes for a class.
            continue
        if inspect.isroutine(value) or inspect.isclass(value):
            bare += [] if value.__doc__ else [name]
        if inspect.isclass(value):
            for member, found in inspect.getmembers(value):
                is_documented = inspect.isroutine(found) or isinstance(inspect.getattr_static(value, member), property)
                if is_documented and not member.startswith("_") and not inspect.getdoc(found):
                    bare.append(f"{name}.{member}")
    assert bare == []


@pytest.mark.parametrize("stub", sorted(SRC.rglob("*.pyi")), ids=lambda path: path.stem)
def test_stubs_have_docstrings(stub: Path) -> None:
    found = [
        node for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_")
    ]  # fmt: skip
    overloads = {node for node in found if any("overload" in ast.unparse(each) for each in node.decorator_list)}
    assert [
        f"{node.name}:{node.lineno}" for node in found if node not in overloads and not ast.get_docstring(node)
    ] == []


def test_help_opens_with_an_example() -> None:
    text = pydoc.plain(pydoc.render_doc(se_server))
    description = text[text.index("DESCRIPTION") :]
    assert description.split()[1] == "Example:"
    assert "async def on_transcript(transcript, session):" in description.split("PACKAGE")[0]
