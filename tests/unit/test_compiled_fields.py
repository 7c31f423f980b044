"""The compiled modules' classes assign the fields that their `.pxd` declares, and no others.

Of a subclass in plain Python, a field that nobody declared lands in its `__dict__`: everything works, slowly.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    Path(name)
    for name in re.findall(r'^    SRC / "se_server/(.*)\.py",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
]
CLASS = re.compile(r"^cdef class (\w+)(?:\((\w+)\))?:\n((?:    .*\n|\n)*)", re.MULTILINE)
FIELD = re.compile(r"^    cdef (?:public |readonly )?[\w.]+(?: \w+)*?(?:\[\d+\])? (\w+)(?: *#.*)?$", re.MULTILINE)


def declared_fields(declarations: str) -> dict[str, set[str]]:
    """Return the fields of each class, without those of its base."""
    return {name: set(FIELD.findall(body)) for name, _, body in CLASS.findall(declarations)}


def assigned_fields(source: str) -> dict[str, set[str]]:
    """Return the attributes of `self` that the methods of each class assign, or assign an item of."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            stored = [part for part in ast.walk(node) if isinstance(getattr(part, "ctx", None), ast.Store)]
            targets = [part.value if isinstance(part, ast.Subscript) else part for part in stored]
            found[node.name] = {
                target.attr
                for target in targets
                if isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
    return found


def all_declared() -> dict[str, set[str]]:
    """Return the fields of each class, those of its bases among them."""
    texts = [(ROOT / "ext/se_server" / module).with_suffix(".pxd").read_text() for module in MODULES]
    own = {name: fields for text in texts for name, fields in declared_fields(text).items()}
    bases = {name: base for text in texts for name, base, _ in CLASS.findall(text) if base}

    def inherited(name: str) -> set[str]:
        return own.get(name, set()) | (inherited(bases[name]) if name in bases else set())

    return {name: inherited(name) for name in own}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_pxd_declares_what_methods_assign(module: Path) -> None:
    source = (ROOT / "src/se_server" / module).with_suffix(".py").read_text(encoding="utf-8")
    pxd = (ROOT / "ext/se_server" / module).with_suffix(".pxd").read_text(encoding="utf-8")
    declared, assigned = all_declared(), assigned_fields(source)
    for name, own in declared_fields(pxd).items():
        assert assigned[name] - declared[name] == set(), f"{name} assigns fields that {module}.pxd does not declare"
        assert own - assigned[name] == set(), f"{module}.pxd declares fields of {name} that no method assigns"


def test_fields_are_read_from_both() -> None:
    pxd = (
        "cdef class A:\n    cdef readonly object one\n    cdef public long long two  # why\n    cdef int[4] three\n"
        "    cdef f(self, int a)\n    cpdef int g(self)\n\n\ncdef class B(A):\n    cdef bint four\n"
    )
    assert declared_fields(pxd) == {"A": {"one", "two", "three"}, "B": {"four"}}
    source = "class A:\n    def f(self, other):\n        self.one, self.two[3] = 1, other.five\n        other.six = 1\n"
    assert assigned_fields(source) == {"A": {"one", "two"}}
