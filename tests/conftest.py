"""Settings of all tests: the number of processes, and independence from the machine's environment and speed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# The machine may be configured for other servers and accounts by these variables.
for name in list(os.environ):
    if name == "NO_COLOR" or name.startswith(("SE_SERVER_", "ELEVENLABS_")):
        del os.environ[name]

# Servers of tests put their control sockets here, and not where se-ctl finds those of this machine.
_runtime = tempfile.TemporaryDirectory(prefix="se-")
os.environ["XDG_RUNTIME_DIR"] = _runtime.name

# Several processes share the machine, so examples have no deadline; pytest-timeout ends a test that hangs.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def own_path() -> Iterator[None]:
    """Keep the directories of agents from the tests that follow, and from their subprocesses."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return two processes per CPU for `pytest -n auto`: functional tests mostly wait. Each takes some 200 MiB."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(2 * cpus, 8)
