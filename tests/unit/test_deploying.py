"""docs/deploy: the commands there have valid options, and service managers wait as long as a stop may take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

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
    return [shlex.split(line) for line in plain]


def test_commands_have_options_with_valid_values() -> None:
    by_flag = {option.flag: option for option in OPTIONS}
    assert len(commands()) == 3
    for app, *words in commands():
        assert app in ("app.py", "agent.py")
        for flag, value in zip(words[::2], words[1::2], strict=True):
            by_flag[flag].parse(value)


def test_systemd_waits_for_a_whole_stop() -> None:
    after_drain_s = DEFAULT_GRACE_S + DEFAULT_EXIT_S + EXIT_MARGIN_S
    assert number(r"^TimeoutStopSec=(\d+)$") > number(r"^ExecStart=.* --drain-timeout-s (\d+) ") + after_drain_s


def test_documented_stop_times_are_the_defaults() -> None:
    assert f"`--drain-timeout-s` ({DEFAULT_DRAIN_S:g})" in PAGES
    assert f"`--drain-turn-grace-s` ({DEFAULT_GRACE_S:g})" in PAGES
    assert f"`--exit-timeout-s` ({DEFAULT_EXIT_S:g})" in PAGES
    assert f"these four times and {EXIT_MARGIN_S:g} s more" in PAGES
