"""The published JavaScript SDK on Node, in the versions of package-lock.json, installed by npm on first use."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.load.targets.handler import WORDS
from bench.load.targets.making import make, need_program, place, run_tool

__all__ = ["COMMAND", "ENVIRONMENT", "install", "is_installed"]

_HERE = Path(__file__).parent
_MADE_OF = [_HERE / name for name in ("package.json", "package-lock.json")]
_FOLDER = place("javascript", *(path.read_text() for path in _MADE_OF))

COMMAND = ("node", str(_HERE / "server.cjs"))
ENVIRONMENT: Mapping[str, str] = {
    "NODE_ENV": "production",
    "NODE_PATH": str(_FOLDER / "node_modules"),
    "BENCH_WORDS": json.dumps(WORDS),
}


def is_installed() -> bool:
    """Return whether the target can run without npm."""
    return _FOLDER.exists() and shutil.which("node") is not None


def install() -> None:
    """Install the SDK unless it is installed, which takes npm and the network.

    Raises:
        BenchError: node or npm is missing, or npm fails.
    """
    need_program("node")
    if _FOLDER.exists():
        return
    npm = need_program("npm")
    print("Installing the published JavaScript SDK with npm, once (109 MB)...", file=sys.stderr, flush=True)

    def fill(folder: Path) -> None:
        for path in _MADE_OF:
            shutil.copy(path, folder)
        # Scripts of packages are not run: the package of ws contains its native helper.
        run_tool("npm ci", [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    make(_FOLDER, fill)
