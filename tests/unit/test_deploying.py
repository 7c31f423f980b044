"""docs/deploy: the commands there have valid options, and service managers wait as long as a stop may take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from se_server.server.config.options import OPTIONS
from se_server.server.supervisor.pool import EXIT_MARGIN_S

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted(DEPLOY.glob("*.md")))
DEFAULT_DRAIN_S, DEFAULT_GRACE_S, DEFAULT_EXIT_S = (
    next(float(str(option.default)) for option in OPTIONS if option.name == name)
    for name in ("drain_timeout_s", "drain_turn_grace_s", "exit_timeout_s")
)


def number(pattern: str) -> float:
    found = re.findall(pattern, PAGES, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} places match {pattern}"
    return float(found[0])


def commands() -> list[list[str]]:
    """Return every command line of se-server in a block of the pages."""
    blocks = "\n".join(re.findall(r"^```\w+\n(.*?)^```$", PAGES, re.MULTILINE | re.DOTALL))
    plain = re.findall(r"^(?:ExecStart=\S*/)?se-server (.*)$", blocks, re.MULTILINE)
    listed = re.findall(r"^  args: \[se-server, (.*)\]$", blocks, re.MULTILINE)
    return [shlex.split(line) for line in plain] + [shlex.split(line.replace(",", " ")) for line in listed]


def test_commands_have_options_with_valid_values() -> None:
    by_flag = {option.flag: option for option in OPTIONS}
    assert len(commands()) == 4
    for app, *words in commands():
        assert app in ("app.py", "agent.py")
        for flag, value in zip(words[::2], words[1::2], strict=True):
            by_flag[flag].parse(value)


@pytest.mark.parametrize(
    ("limit", "drain", "before"),
    [
        (r"^TimeoutStopSec=(\d+)$", r"^ExecStart=.* --drain-timeout-s (\d+)$", None),
        (r"^terminationGracePeriodSeconds: (\d+)$", r'--drain-timeout-s, "(\d+)"', r'command: \[sleep, "(\d+)"\]'),
    ],
    ids=["systemd", "kubernetes"],
)
def test_service_managers_wait_for_a_whole_stop(limit: str, drain: str, before: str | None) -> None:
    after_drain_s = DEFAULT_GRACE_S + DEFAULT_EXIT_S + EXIT_MARGIN_S
    assert number(limit) > number(drain) + after_drain_s + (number(before) if before else 0)


def test_documented_stop_times_are_the_defaults() -> None:
    assert f"`--drain-timeout-s` ({DEFAULT_DRAIN_S:g})" in PAGES
    assert f"`--drain-turn-grace-s` ({DEFAULT_GRACE_S:g})" in PAGES
    assert f"`--exit-timeout-s` ({DEFAULT_EXIT_S:g})" in PAGES
    assert f"these four times and {EXIT_MARGIN_S:g} s more" in PAGES
