"""The settings of coverage in pyproject.toml agree with setup.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


def test_coverage_omits_exactly_the_compiled_modules() -> None:
    compiled = re.findall(r'^    SRC / "(se_server/[^"]+\.py)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    assert compiled
    assert sorted(settings["omit"]) == sorted(f"*/{path}" for path in compiled)
