"""Two nodes in network namespaces behind a balancer: the short form of `bench.fleet`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.fleet_balancers import BALANCERS


@pytest.mark.timeout(150)
@pytest.mark.parametrize("balancer", list(BALANCERS))
def test_deploys_and_scaling_of_a_fleet_cut_nothing(balancer: str) -> None:
    command = [sys.executable, "-m", "bench.fleet", "--quick", "--conversations", "30", "--balancer", balancer]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=140)
    if ran.returncode == 2:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "kill -9 of b" in ran.stdout
