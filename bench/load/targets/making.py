"""Builds the parts of targets that no package contains, on first use, and caches them by a hash of their inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.kernel import BenchError

__all__ = ["SCRATCH", "install_packages", "make", "need_packages", "need_program", "place", "run_tool"]

SCRATCH = Path(__file__).parents[2] / "results" / "scratch" / "targets"
TOOL_TIMEOUT_S = 180.0


def need_packages(*names: str) -> None:
    """Check that Python packages are installed, without importing them.

    Raises:
        BenchError: one of them is missing.
    """
    for name in names:
        package, _, _ = name.partition(".")
        if find_spec(package) is None or find_spec(name) is None:
            raise BenchError(f"the package {name} is not installed; pip install '.[bench]' brings it")


def need_program(*names: str) -> str:
    """Return the path of the first of these programs that is installed.

    Raises:
        BenchError: none of them is.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise BenchError(f"there is no {' or '.join(names)} on the PATH")


def install_packages(folder: Path, *requirements: str) -> None:
    """Install packages into a cached folder, for a target that needs other versions than this environment has.

    Raises:
        BenchError: pip cannot.
    """

    def fill(draft: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft)]
        run_tool("pip install", [*command, *requirements], draft)

    make(folder, fill)


def place(name: str, *made_of: bytes | str) -> Path:
    """Return the path of a cached folder, which may not exist yet.

    Args:
        name: the beginning of its name.
        made_of: everything that determines its contents: sources, versions, options.
    """
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()
    return SCRATCH / f"{name}-{digest[:16]}"


def make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder unless it exists: `fill` fills an empty one; if it fails, nothing is left behind."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as draft:
        filled = Path(draft, folder.name)
        filled.mkdir()
        fill(filled)
        try:
            os.rename(filled, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise


def run_tool(what: str, command: Sequence[str], folder: Path, timeout_s: float = TOOL_TIMEOUT_S) -> None:
    """Run a compiler or an installer in a folder.

    Raises:
        BenchError: it failed; the error quotes the end of its output.
    """
    try:
        ran = subprocess.run(
            command,
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{what} took more than {timeout_s:.0f} s") from None
    if ran.returncode:
        said = " ".join(ran.stdout.decode(errors="replace").split())
        raise BenchError(f"{what} failed: {said[-300:] or 'it said nothing'}")
