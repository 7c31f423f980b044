"""Check with mypy and pyright, both strict, how programs see the package's types: `python tests/types/check.py`.

`accepted.py` has no error; `refused.py` has one on each line that ends in `# refused`, and on no other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER.parents[1] / "src"
PROGRAMS = ("accepted.py", "refused.py")
LOWEST = "3.10"

Errors = set[tuple[str, int]]


def expected() -> Errors:
    """Return the file and the line of each mistake."""
    lines = (FOLDER / "refused.py").read_text(encoding="utf-8").splitlines()
    return {("refused.py", number) for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def by_mypy() -> tuple[Errors, str]:
    """Return the errors that mypy reports in the programs, and its output."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-version={LOWEST}", *PROGRAMS]
    run = subprocess.run(
        command, cwd=FOLDER, env={**os.environ, "MYPYPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    found = re.findall(r"^(\w+\.py):(\d+): error", run.stdout, re.MULTILINE)
    return {(name, int(line)) for name, line in found}, run.stdout + run.stderr


def by_pyright() -> tuple[Errors, str]:
    """Return the errors that pyright reports with `pyrightconfig.json`, and its output."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(FOLDER)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(run.stdout)["generalDiagnostics"]
    errors = [item for item in found if item["severity"] == "error"]
    text = "\n".join(f"{item['file']}:{item['range']['start']['line'] + 1}: {item['message']}" for item in errors)
    return {(Path(item["file"]).name, item["range"]["start"]["line"] + 1) for item in errors}, text


def main() -> int:
    """Run both checkers; return 1 if one of them sees other errors than expected."""
    wanted, failed = expected(), False
    for name, check in (("mypy", by_mypy), ("pyright", by_pyright)):
        found, output = check()
        for file, line in sorted(found - wanted):
            print(f"{name}: unexpected error at {file}:{line}")
        for file, line in sorted(wanted - found):
            print(f"{name}: no error at {file}:{line}")
        if found != wanted:
            failed = True
            print(output)
        else:
            print(f"{name}: {len(found)} mistakes reported, everything else accepted")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
