"""docs/deploying.md: the commands in it start, and whoever stops the server waits long enough."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from se_server.server.config.options import OPTIONS
from se_server.server.supervisor.pool import EXIT_MARGIN_S

DEPLOYING = (Path(__file__).resolve().parents[2] / "docs" / "deploying.md").read_text()
DEFAULT_DRAIN_S, DEFAULT_GRACE_S = (
    next(float(str(option.default)) for option in OPTIONS if option.name == name)
    for name in ("drain_timeout_s", "drain_turn_grace_s")
)


def number(pattern: str) -> float:
    found = re.findall(pattern, DEPLOYING, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} places match {pattern}"
    return float(found[0])


def commands() -> list[list[str]]:
    """Every command line of se-server on the page."""
    plain = re.findall(r"^(?:ExecStart=\S*/)?se-server (.*)$", DEPLOYING, re.MULTILINE)
    listed = re.findall(r"^  args: \[se-server, (.*)\]$", DEPLOYING, re.MULTILINE)
    return [shlex.split(line) for line in plain] + [shlex.split(line.replace(",", " ")) for line in listed]


def test_the_options_on_the_page_exist_and_take_their_values() -> None:
    by_flag = {option.flag: option for option in OPTIONS}
    assert len(commands()) == 3
    for app, *words in commands():
        assert app == "app.py"
        for flag, value in zip(words[::2], words[1::2], strict=True):
            by_flag[flag].parse(value)
    for flag in re.findall(r"`(--[a-z-]+)", DEPLOYING):
        assert flag in by_flag


@pytest.mark.parametrize(
    ("limit", "drain", "before"),
    [
        (r"^TimeoutStopSec=(\d+)$", r"^ExecStart=.* --drain-timeout-s (\d+)$", None),
        (r"^terminationGracePeriodSeconds: (\d+)$", r'--drain-timeout-s, "(\d+)"', r'command: \[sleep, "(\d+)"\]'),
    ],
)
def test_whoever_stops_the_server_waits_longer_than_a_stop_may_take(limit: str, drain: str, before: str | None) -> None:
    assert number(limit) > number(drain) + DEFAULT_GRACE_S + EXIT_MARGIN_S + (number(before) if before else 0)


def test_the_times_that_the_page_tells_are_those_of_the_code() -> None:
    assert f"`--drain-timeout-s` ({DEFAULT_DRAIN_S:g})" in DEPLOYING
    assert f"`--drain-turn-grace-s` ({DEFAULT_GRACE_S:g})" in DEPLOYING
    assert f"these three times and {EXIT_MARGIN_S:g} s more" in DEPLOYING
