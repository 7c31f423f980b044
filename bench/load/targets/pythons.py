"""se-server on several Pythons, each in an environment of its own, which is built from this checkout on first use."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.kernel import BenchError, Target
from bench.load.targets.making import SCRATCH, make, run_tool

__all__ = ["VERSIONS", "on_other_pythons"]

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CHECKOUT = Path(__file__).parents[3]
SOURCES = ("src", "ext", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD_TIMEOUT_S = 1800.0


def interpreter(version: str) -> Path:
    """Return the path of a Python of this version: of pyenv, or on the PATH.

    Raises:
        BenchError: there is none.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    on_path = shutil.which(f"python{version}")
    for path in (*sorted(root.glob(f"{version}.*/bin/python"), reverse=True), *([Path(on_path)] if on_path else ())):
        told = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
                              capture_output=True, text=True, check=False)  # fmt: skip
        if told.stdout.strip() == version:  # a shim of pyenv may have none
            return path
    raise BenchError(f"there is no Python {version} on the PATH or in pyenv")


def environment_of(version: str) -> Path:
    """Return the folder of the environment for a version, which may not exist yet."""
    return SCRATCH / f"python-{version}"


def _sources_hash() -> str:
    """Return a hash of what is built."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = CHECKOUT / name
        for file in sorted(path.rglob("*") if path.is_dir() else [path]):
            if file.suffix in (".py", ".pyx", ".pxd", ".pxi", ".h", ".c", ".toml") and not _is_built(file):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_built(path: Path) -> bool:
    """Whether a C file was made of another file beside it."""
    return path.suffix == ".c" and any(path.with_suffix(suffix).exists() for suffix in (".pyx", ".py"))


def _copy(draft: Path) -> Path:
    """Copy the sources, so that nothing is built inside the checkout."""
    source = draft / "source"
    source.mkdir()
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=_built_in)
        elif path.exists():
            shutil.copy(path, source)
    return source


def _built_in(folder: str, names: list[str]) -> set[str]:
    built = {name for name in names if name.endswith((".so", ".egg-info")) or name in ("__pycache__", "build")}
    return built | {name for name in names if _is_built(Path(folder, name))}


def build(version: str) -> None:
    """Make the environment for a version unless it exists, which takes some minutes.

    Raises:
        BenchError: there is no such Python, or pip fails.
    """
    python = interpreter(version)
    folder = environment_of(version)
    sources = _sources_hash()
    stamp = folder / "sources.sha256"
    if stamp.exists() and stamp.read_text() == sources:
        return
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Building se-server for Python {version}, once...", file=sys.stderr, flush=True)

    def fill(draft: Path) -> None:
        run_tool("venv", [str(python), "-m", "venv", str(draft)], draft)
        source = _copy(draft)
        pip = [str(draft / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        run_tool("pip install", [*pip, str(source), "openai"], draft, BUILD_TIMEOUT_S)
        shutil.rmtree(source)
        (draft / stamp.name).write_text(sources)

    make(folder, fill)


def on_other_pythons(ours: Target) -> Iterator[Target]:
    """Yield our target on each version."""
    for version in VERSIONS:
        yield dataclasses.replace(
            ours,
            name=f"{ours.name}, Python {version}",
            command=(str(environment_of(version) / "bin" / "python"), *ours.command[1:]),
            prepare=lambda version=version: build(version),  # type: ignore[misc]
        )
