"""How the tests are spread: `pytest -n auto` runs them in several processes at once."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Take twice as many processes as there are CPUs: functional tests mostly wait."""
    return 2 * (os.cpu_count() or 1)
