"""Another version of `se_server`, built beside this one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.kernel import BenchError

__all__ = ["ROOT", "built", "check_version"]

ROOT = Path(__file__).resolve().parents[2]


def check_version(ref: str) -> None:
    """Check that a version exists.

    Raises:
        BenchError: it does not.
    """
    known = subprocess.run(
        ["git", "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        raise BenchError(f"{ref} names no version in {ROOT}")


@contextmanager
def built(ref: str) -> Iterator[Path]:
    """Check a version out into a temporary worktree and build its extensions; yield the folder of its package.

    Raises:
        BenchError: it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "base")
        try:
            _do("git", "worktree", "add", "--detach", str(tree), ref, cwd=ROOT)
            _do(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree)
            yield tree / "src"
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, capture_output=True, check=False
            )


def _do(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {done.stdout.strip()[-500:]}")
