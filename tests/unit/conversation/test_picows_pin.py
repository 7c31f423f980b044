"""The pin on picows: three places, one version, and a clear sentence when another is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from se_server.conversation import PICOWS_VERSION

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_build_and_run_time_pin_one_version() -> None:
    """The build and the run time pin the version that is compiled in."""
    assert PYPROJECT.read_text().count(f'"picows=={PICOWS_VERSION}"') == 2


def test_another_picows_is_refused_in_one_sentence() -> None:
    script = "import picows; picows.__version__ = '9.9'; import se_server.conversation.host"
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "ImportError: se-server was built against picows 2.3.1, and 9.9 is installed: pip install picows==2.3.1"
    )
