"""Check the stubs of all extensions against the built modules: `python tests/types/stubs.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run stubtest on each module that has a stub; return its exit code."""
    stubs = sorted((ROOT / "src").rglob("_*.pyi"))
    modules = [".".join(stub.relative_to(ROOT / "src").with_suffix("").parts) for stub in stubs]
    options = ["--allowlist", str(ROOT / "tests/stubtest-allowlist.txt"), "--ignore-unused-allowlist"]
    return subprocess.run([sys.executable, "-m", "mypy.stubtest", *options, *modules], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
