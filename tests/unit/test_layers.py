"""Layers: every `import`, `cimport` and `include` points down, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. The rooms of `server` are layers of their own.
LAYERS = [
    {"errors"},
    {"telemetry", "_message"},
    {"types"},
    {"protocol"},
    {"streams"},
    {"conversation"},
    {"server.listen", "server.shared"},
    {"server.door"},
    {"server.config"},
    {"server.worker"},
    {"server.supervisor"},
    {"sdk"},
    {"observe", "simulator"},
    {"load"},
    {"doctor"},
    {"cli", "testing"},
    {"", "speech_engine"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# These layers import nothing but the layers listed.
ONLY = {
    "address": set(),
    "auth": {"errors"},
    "options": {"errors"},
    "demo": {"types", "conversation"},
    "sdk": {
        "errors", "telemetry", "_message", "types", "protocol", "streams", "conversation", "auth", "options", "address",
        "server.listen", "server.shared", "server.config", "server.door",
    },
}  # fmt: skip
RANK |= {"address": 0, "auth": 0, "options": 0, "demo": 0}
CIMPORT = re.compile(r"^\s*from\s+([\w.]+)\s+c?import\s+\(?([\w ,]+)|^\s*c?import\s+([\w.]+)", re.MULTILINE)
INCLUDE = re.compile(r"^\s*include\s+[\"']([^\"']+)\.pxi[\"']", re.MULTILINE)
CYTHON = (".pyx", ".pxd", ".pxi")


def read_imports(source: Path, base: Path) -> list[str]:
    """Return every module, and every name in a module, that a source imports."""
    text = source.read_text()
    if source.suffix in CYTHON:
        names = []
        for package, members, plain in CIMPORT.findall(text):
            names.append(plain or package)
            names += [f"{package}.{member.split()[0]}" for member in members.split(",") if member.strip()]
        for included in INCLUDE.findall(text):
            folder = base if "/" in included else source.parent
            names.append(".".join((folder / included).relative_to(base).parts))
        return names
    nodes = list(ast.walk(ast.parse(text)))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), f"{source}: a relative import"
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def read_tree(*bases: tuple[Path, str]) -> dict[str, set[str]]:
    """Return the modules that each module imports; a stub and a .pxd count as their module."""
    sources: list[tuple[str, Path, Path]] = []
    for base, below in bases:
        for source in sorted((base / below).rglob("*")):
            if source.suffix in (".py", ".pyi", *CYTHON):
                name = ".".join(source.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
                sources.append((name, source, base))
    known = {name for name, _, _ in sources}
    tree: dict[str, set[str]] = {name: set() for name in known}
    for name, source, base in sources:
        for imported in read_imports(source, base):
            if imported in known and imported != name:
                tree[name].add(imported)
            elif imported.rpartition(".")[0] in known - {name}:
                tree[name].add(imported.rpartition(".")[0])
    # `from package import module` names the package too, which is no arrow of its own.
    return {name: {other for other in others if not _is_package_of(other, others)} for name, others in tree.items()}


def _is_package_of(package: str, others: set[str]) -> bool:
    return any(other.startswith(package + ".") for other in others)


def room(module: str) -> str:
    parts = [*module.split("."), "", ""]
    return ".".join(parts[1:3]) if parts[1] == "server" and parts[2] else parts[1]


def find_circle(tree: dict[str, set[str]]) -> list[str]:
    """Return one circle of imports, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(tree.get(name, ())):
            if circle := visit(other, [*path, name]):
                return circle
        done.add(name)
        return []

    for name in sorted(tree):
        if circle := visit(name, []):
            return circle
    return []


def is_allowed(upper: str, lower: str) -> bool:
    if upper == lower:
        return True
    return lower in ONLY[upper] if upper in ONLY else RANK[lower] < RANK[upper]


def test_no_import_points_against_the_layers() -> None:
    tree = read_tree((ROOT / "src", "se_server"), (ROOT / "ext", "se_server"))
    assert len(tree) > 150
    arrows = [
        f"{name} imports {other}"
        for name, others in sorted(tree.items())
        for other in sorted(others)
        if other != "se_server" and not is_allowed(room(name), room(other))
    ]
    assert not arrows, "\n".join(arrows)


@pytest.mark.parametrize(
    "bases",
    [
        pytest.param((("src", "se_server"), ("ext", "se_server")), id="src"),
        pytest.param(((".", "bench"),), id="bench"),
    ],
)
def test_nothing_imports_in_a_circle(bases: tuple[tuple[str, str], ...]) -> None:
    tree = read_tree(*((ROOT / base, below) for base, below in bases))
    tree.pop("se_server", None)  # it imports each name when it is first used
    assert tree
    assert not find_circle(tree), " -> ".join(find_circle(tree))


def test_circles_are_found() -> None:
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c", "a"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
