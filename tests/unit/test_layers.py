"""Layers: every `import`, `cimport` and `include` points down, and no modules import each other in a circle.

A layer also keeps to the modules of the standard library that it may use.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. The rooms of `server` are layers of their own.
LAYERS = [
    {"errors", "address", "forks", "toml_file"},
    {"telemetry", "_message", "auth", "options", "spelling", "signatures"},
    {"types", "_history", "recordings", "client_tls"},
    {"protocol", "history"},
    {"streams"},
    {"conversation"},
    {"demo", "server.listen", "server.shared"},
    {"server.door"},
    {"server.config"},
    {"server.worker", "server.observer"},
    {"server.supervisor"},
    {"sdk"},
    {"observe", "simulator"},
    {"load", "playground"},
    {"doctor"},
    {"cli", "testing"},
    {"", "client", "speech_engine", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# These layers import nothing but the layers listed.
ONLY = {
    "auth": {"errors"},
    "forks": set(),
    "toml_file": set(),
    "options": {"errors"},
    "spelling": set(),
    "signatures": set(),
    "demo": {"types", "conversation"},
    "sdk": {
        "errors", "telemetry", "_message", "types", "protocol", "streams", "conversation", "auth", "options", "address",
        "spelling", "forks", "server.listen", "server.shared", "server.config", "server.door",
    },
}  # fmt: skip
# Standard modules and packages that a layer may not use, because their I/O belongs to another layer.
NETWORK = {"select", "selectors", "socket", "socketserver", "ssl"}
PROCESSES = {"fcntl", "mmap", "multiprocessing", "signal", "subprocess"}
LOOPS = {"asyncio", "concurrent", "picows", "threading", "uvloop"}
FORBIDDEN = {
    "address": NETWORK | PROCESSES | LOOPS | {"logging", "os", "time"},
    "errors": NETWORK | PROCESSES | LOOPS | {"logging", "os", "time"},
    "auth": NETWORK | PROCESSES | LOOPS | {"logging", "os"},
    "options": NETWORK | PROCESSES | LOOPS | {"logging", "time"},
    "spelling": NETWORK | PROCESSES | LOOPS | {"logging", "os", "time"},
    "types": NETWORK | PROCESSES | LOOPS | {"logging", "os", "time"},
    "protocol": NETWORK | PROCESSES | LOOPS | {"logging", "os", "time"},
    "streams": NETWORK | PROCESSES,
    "conversation": NETWORK | PROCESSES,
    "demo": NETWORK | PROCESSES,
    "server.config": NETWORK | PROCESSES,
    "server.door": PROCESSES,
    "sdk": PROCESSES,
}
ALLOWED_NEVERTHELESS = {
    ("se_server.conversation.jobs", "signal"),  # reads whether SIGINT has a handler, and sets none
    ("se_server.streams.blocking", "socket"),
    ("se_server.sdk.resource", "ssl"),  # the type of an argument
    ("se_server.sdk.server", "ssl"),
    ("se_server.sdk.signals", "signal"),  # for programs of one process
}
OUTSIDE = {"tests", "bench", "examples"}  # they import the package, never the other way
# These modules import `__version__` from the package itself.
READS_THE_VERSION = {
    "se_server.sdk.metrics",
    "se_server.server.observer.process",
    "se_server.server.supervisor.orders",
    "se_server.cli.doctor",
    "se_server.cli.playing",
    "se_server.cli.server",
    "se_server.cli.server_terminal",
}
BY_NAME = re.compile(r"""(?:import_module|__import__)\(\s*f?["']([\w.]+)""")
FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(.+)", re.MULTILINE)
PLAIN = re.compile(r"^[ \t]*c?import[ \t]+([\w., \t]+)", re.MULTILINE)
INCLUDE = re.compile(r"^[ \t]*include[ \t]+[\"']([^\"']+)[\"']", re.MULTILINE)
CYTHON = (".pyx", ".pxd", ".pxi")


def read_imports(text: str, *, is_cython: bool) -> set[tuple[str, str]]:
    """Return the imports of a source: a module, and the name imported from it or nothing."""
    if is_cython:
        # Strip comments, and join lines inside parentheses and after a backslash.
        text = re.sub(r"#.*", "", text).replace("\\\n", " ").replace(";", "\n")
        text = re.sub(r"\([^()]*\)", lambda found: found[0].replace("\n", " ").strip("()"), text)
        imports = {(name.split()[0], "") for names in PLAIN.findall(text) for name in names.split(",") if name.strip()}
        for module, names in FROM.findall(text):
            imports |= {(module, name.split()[0]) for name in names.split(",") if name.strip()}
    else:
        imports = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imports |= {(alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports |= {("." * node.level + (node.module or ""), alias.name) for alias in node.names}
    imports |= {(name.rstrip("."), "") for name in BY_NAME.findall(text)}
    assert not any(module.startswith(".") for module, _ in imports), "a relative import"
    return imports


def read_tree(*bases: tuple[Path, str]) -> dict[str, set[str]]:
    """Return the modules that each module imports; a stub, a .pxd and an included .pxi count like modules."""
    sources: list[tuple[str, Path, Path]] = []
    for base, below in bases:
        for source in sorted((base / below).rglob("*")):
            # The benchmark installs packages of others into its scratch folder.
            if source.suffix in (".py", ".pyi", *CYTHON) and "scratch" not in source.relative_to(base).parts:
                name = ".".join(source.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
                sources.append((name, source, base))
    tree: dict[str, set[str]] = {name: set() for name, _, _ in sources}
    for name, source, base in sources:
        text = source.read_text()
        for module, member in read_imports(text, is_cython=source.suffix in CYTHON):
            imported = f"{module}.{member}"
            while imported and imported not in tree:
                imported = imported.rpartition(".")[0]
            if imported not in ("", name):
                tree[name].add(imported)
        for included in INCLUDE.findall(text) if source.suffix in CYTHON else ():
            paths = [folder / included for folder in (source.parent, base)]
            found = next((path for path in paths if path.exists()), None)
            assert found, f"{source} includes {included}, which does not exist"
            tree[name].add(".".join(found.resolve().relative_to(base).with_suffix("").parts))
    return tree


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
    assert upper in RANK, f"no layer is named {upper!r}"
    assert lower in RANK, f"no layer is named {lower!r}"
    return upper == lower or (RANK[lower] < RANK[upper] and lower in ONLY.get(upper, RANK))


def forbidden_imports(name: str, imports: set[tuple[str, str]]) -> list[str]:
    """Return the modules outside the package that a module imports and its layer may not use."""
    found = {module.split(".")[0] for module, _ in imports}
    forbidden = (FORBIDDEN.get(room(name), set()) if "." in name else set()) | OUTSIDE
    return sorted(module for module in found & forbidden if (name, module) not in ALLOWED_NEVERTHELESS)


def test_layers_keep_to_their_standard_modules() -> None:
    found = []
    for base in (ROOT / "src", ROOT / "ext"):
        for source in sorted((base / "se_server").rglob("*")):
            if source.suffix in (".py", ".pyi", *CYTHON):
                name = ".".join(source.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
                imports = read_imports(source.read_text(), is_cython=source.suffix in CYTHON)
                found += [f"{name} imports {module}" for module in forbidden_imports(name, imports)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("se_server.protocol.words", "import asyncio"),
        ("se_server.protocol.words", "from os import path"),
        ("se_server.protocol.words", "import re; import logging"),
        ("se_server.protocol._wire", "cimport cython; import socket"),
        ("se_server.conversation.core", "from signal import signal"),
        ("se_server.server.door.door", "import tests.helpers"),
        ("se_server.cli.bench", "__import__('bench.soak')"),
    ],
)
def test_a_forbidden_module_is_found(name: str, source: str) -> None:
    assert forbidden_imports(name, read_imports(source, is_cython="._" in name))


def test_every_module_has_a_layer() -> None:
    tree = read_tree((ROOT / "src", "se_server"), (ROOT / "ext", "se_server"))
    assert {room(name) for name in tree if "." in name} - {"server"} <= set(RANK)


def test_no_import_points_against_the_layers() -> None:
    tree = read_tree((ROOT / "src", "se_server"), (ROOT / "ext", "se_server"))
    assert len(tree) > 150
    arrows = [
        f"{name} imports {other}"
        for name, others in sorted(tree.items())
        for other in sorted(others)
        if not (other == "se_server" and name in READS_THE_VERSION) and not is_allowed(room(name), room(other))
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


def test_every_way_to_import_is_read(tmp_path: Path) -> None:
    for name, text in {
        "a/__init__.py": "def f():\n    from a.low import x, \\\n        y\n",
        "a/low.pyx": (
            "from a.one cimport (  # why\n    f,\n    g as h,\n)\nfrom a cimport two as t, three\n"
            "cimport a.four, a.five as five\ninclude 'a/six.pxi'\ninclude \"seven.pxi\"\n"
        ),
        **{f"a/{name}.pxd": "" for name in ("one", "two", "three", "four", "five")},
        **{f"a/{name}.pxi": "" for name in ("six", "seven")},
        "a/top.py": "import a.low as low, a.one\nfrom a import f, two\n",
        "a/by_name.py": (
            "import sys; import a.one\nimport_module('a.two')\n__import__(\"a.top\")\nimport_module(f'a.low.{x}')\n"
        ),
        "a/joined.pyx": "import sys; from a cimport one; cimport a.two\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    tree = read_tree((tmp_path, "a"))
    assert tree["a"] == {"a.low"}
    assert tree["a.low"] == {f"a.{name}" for name in ("one", "two", "three", "four", "five", "six", "seven")}
    assert tree["a.top"] == {"a", "a.low", "a.one", "a.two"}
    assert tree["a.by_name"] == {"a.low", "a.one", "a.two", "a.top"}
    assert tree["a.joined"] == {"a.one", "a.two"}


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ("sdk", "server.supervisor"),
        ("sdk", "server.worker"),
        ("server.door", "server.config"),
        ("server.config", "server.worker"),
        ("conversation", "demo"),
        ("observe", "simulator"),
        ("options", "types"),
        ("protocol", ""),
    ],
)
def test_layers_above_and_beside_are_forbidden(upper: str, lower: str) -> None:
    assert not is_allowed(upper, lower)
