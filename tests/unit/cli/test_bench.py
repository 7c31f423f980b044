"""The group of se-bench lists its commands without importing them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from click.testing import CliRunner
from se_server.cli.bench import command

told = CliRunner().invoke(command, ["--help"])
assert told.exit_code == 0, told.output
print(told.output)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("rich", "uvloop", "picows", "bench", "matplotlib")))
"""


def test_help_lists_all_commands_and_imports_none() -> None:
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in told.splitlines() if line.startswith("  ") and "  " in line.strip()][1:] == [
        "load",
        "capacity",
        "compare",
        "micro",
        "scaling",
    ]
    assert told.splitlines()[-1] == "[]"
