"""What holds for all tests: how they are spread over processes, and what of the machine must not matter to them."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# Whoever runs the tests may have servers and accounts of their own, and these variables with them.
for name in list(os.environ):
    if name == "NO_COLOR" or name.startswith(("SE_SERVER_", "ELEVENLABS_")):
        del os.environ[name]

# Several processes at once have the machine's time to share; a test that hangs is ended by pytest-timeout.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let `pytest -n auto` take two processes for each CPU: functional tests mostly wait. Each has some 200 MiB."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(2 * cpus, 8)
