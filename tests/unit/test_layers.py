"""Who may import whom: every `import` and `cimport` points down, or sideways within a layer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Lowest first; the facade is what users import. `auth` and `demo` may see little on purpose.
LAYERS = [
    {"errors"},
    {"_counters", "_message"},
    {"types"},
    {"protocol"},
    {"conversation"},
    {"server"},
    {"engine"},
    {"observe", "simulator"},
    {"load"},
    {"doctor"},
    {"cli", "testing"},
    {"", "speech_engine"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ONLY = {"address": set(), "auth": {"errors"}, "options": {"errors"}, "demo": {"types", "conversation"}}
RANK |= {"address": 0, "auth": 0, "options": 0, "demo": 0}

CIMPORT = re.compile(r"^\s*(?:from\s+(se_server[\w.]*)\s+c?import|c?import\s+(se_server[\w.]*))", re.MULTILINE)


def imports(source: Path) -> list[str]:
    text = source.read_text()
    if source.suffix in (".pyx", ".pxd", ".pxi"):
        return [a or b for a, b in CIMPORT.findall(text)]
    nodes = list(ast.walk(ast.parse(text)))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), f"{source}: a relative import"
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == "se_server"]


def layer(module: str) -> str:
    return [*module.split("."), ""][1]


def test_no_import_points_against_the_layers() -> None:
    sources = [
        (base, source)
        for base in (ROOT / "src", ROOT / "ext")
        for source in sorted(base.rglob("*"))
        if source.suffix in (".py", ".pyi", ".pyx", ".pxd", ".pxi")
    ]
    arrows = []
    for base, source in sources:
        module = ".".join(source.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        upper = layer(module)
        for imported in imports(source):
            lower = layer(imported)
            if lower == upper or imported == "se_server.__version__":
                continue
            allowed = lower in ONLY[upper] if upper in ONLY else RANK[lower] < RANK[upper]
            if not allowed:
                arrows.append(f"{source.relative_to(ROOT)} imports {imported}")
    assert len(sources) > 20
    assert not arrows, "\n".join(arrows)
