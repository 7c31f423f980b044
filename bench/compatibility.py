"""Writes `docs/compatibility.md`: se-doctor's verdicts on this server and on the published SDK's, side by side.

`python -m bench.compatibility [--write] [--pre-release PYTHON]`. PYTHON is the interpreter of an environment with the
newest pre-release of `elevenlabs` and with the dependencies of se-server: one more column. All servers run the
reference agent of se-doctor, with authentication on; se-doctor examines one after the other. Exit code 0: no case fails
for ours; 1: one does; 2: could not be run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.kernel import BenchError, Target, pick_cores, running
from bench.load.targets import API_KEY

AGENT = "se_server.doctor.agent"
PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"
TIMEOUT_S = 300.0
HEARD_CHARS = 30

OURS, PUBLISHED, PRE_RELEASE = "se-server", "published SDK", "its pre-release"
TARGETS = (
    Target(
        name=OURS,
        command=(
            *(sys.executable, "-m", "se_server.cli.server", AGENT),
            *("--workers", "1", "--host", "127.0.0.1", "--port", "0", "--path", "/ws"),
        ),
        ready=r"ready: ws://[^ ]*:(?P<port>\d+)",
        environment={"ELEVENLABS_API_KEY": API_KEY},
    ),
    Target(
        name=PUBLISHED,
        command=(sys.executable, "-m", "bench.load.targets.published_sdk_target", "asyncio", AGENT),
        environment={"ELEVENLABS_API_KEY": API_KEY},
    ),
)

Report = dict[str, Any]


def pre_release(python: str) -> Target:
    """Return the published SDK's server in another environment."""
    command = (python, "-m", "bench.load.targets.published_sdk_target", "asyncio", AGENT)
    source = str(Path(__file__).parents[1] / "src")  # the agent, which is not installed there
    return Target(name=PRE_RELEASE, command=command, environment={"ELEVENLABS_API_KEY": API_KEY, "PYTHONPATH": source})


def version_in(python: str) -> str:
    """Return the version of `elevenlabs` in another environment.

    Raises:
        BenchError: it is not installed there.
    """
    code = "from importlib.metadata import version; print(version('elevenlabs'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BenchError(f"{python} has no elevenlabs") from None
    return done.stdout.strip()


def examine(target: Target, core: int, options: Sequence[str]) -> Report:
    """Start a server, let se-doctor examine it, and return its report."""
    with running(target, core) as server:
        print(f"  {target.name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "se_server.cli.doctor", server.url, "--agent", "reference", "--json", *options]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "ELEVENLABS_API_KEY": API_KEY},
                stdout=subprocess.PIPE,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"se-doctor did not end within {TIMEOUT_S:g} s") from None
    if done.returncode not in (0, 1):
        raise BenchError(f"se-doctor could not examine {target.name}: exit code {done.returncode}")
    report: Report = json.loads(done.stdout)
    return report


def page(ours: Report, theirs: Report, newest: Report | None = None, newest_version: str = "") -> str:
    """Return the document; `newest` is the report on the published SDK's pre-release."""
    columns = [ours, theirs, *([] if newest is None else [newest])]
    versions = version("elevenlabs") + (f" and {newest_version}" if newest else "")
    heads = [OURS, PUBLISHED, f"{PRE_RELEASE} {newest_version}"][: len(columns)]
    made = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    lines = [
        "# Compatibility with the live API",
        "",
        "The live API does more than ask once and listen. This page shows, case by case, what a caller hears from\n"
        "se-server and from a server made with the published SDK (`SpeechEngineServer` of `elevenlabs`).",
        "",
        f"Made by `python -m bench.compatibility --write` on {made}: se-server of this checkout, elevenlabs"
        f" {versions}\nwith websockets {version('websockets')}, Python {platform.python_version()} on"
        f" {platform.system()}. All with default options, authentication on, and the\nreference agent of `se-doctor`"
        " (`se_server.doctor.agent`), which fails, delays and ignores cancellation on request.",
        "",
        _words(ours, theirs, newest),
        "",
        "`se-doctor wss://your.host/ws` runs the same cases against your own server.",
    ]
    group = ""
    for mine, *others in zip(*(report["cases"] for report in columns), strict=True):
        assert {mine["name"]} == {other["name"] for other in others}
        if mine["group"] != group:
            group = mine["group"]
            lines += ["", f"## {group}", "", f"| case | a good server | {' | '.join(heads)} |"]
            lines.append(f"| --- | --- |{' --- |' * len(heads)}")
        told = " | ".join(_told(result) for result in (mine, *others))
        lines.append(f"| `{mine['name']}` | {_cell(mine['title'])} | {told} |")
    lines += [
        "",
        "## Limits of this comparison",
        "",
        "* The habits and their values come from field reports. The live API may change them, and does not show all of"
        " them\n  every day. In conversations without them, both servers sound alike.",
        '* "If ..." names the only reading of the API under which a case does not pass: the reports disagree, and'
        " nobody outside knows.\n  [answers.md](answers.md) has the options that suit each.",
        "* Times are measured on loopback. Two seconds of silence simulate a language model that thinks.",
        "* A case judges what a caller hears and what the agent's owner pays, not speed; for that see"
        " [bench/README.md](../bench/README.md).",
        "* Two faults of the published SDK cannot be seen from outside: a stream of an unknown shape ends in silence"
        " without an\n  error, and raw SSE lines that an agent yields are spoken as they are.",
        "",
    ]
    return "\n".join(lines)


def _words(ours: Report, theirs: Report, newest: Report | None) -> str:
    def told(report: Report) -> str:
        counts = report["counts"]
        text = f"passes {counts.get('pass', 0)} of {len(report['cases'])} cases"
        for state, words in (
            ("fail", "fails {}"),
            ("warning", "has warnings in {}"),
            ("not tested", "{} not tested"),
        ):
            text += f", {words.format(counts[state])}" if counts.get(state) else ""
        return text

    more = "" if newest is None else f" Its pre-release {told(newest)}."
    return f"se-server {told(ours)}. The published SDK {told(theirs)}.{more}"


def _told(result: Report) -> str:
    heard = " ".join(result["heard"].split())
    heard = heard if len(heard) <= HEARD_CHARS else heard[: HEARD_CHARS - 1].rstrip() + "…"
    state = {"pass": "pass", "fail": "**FAIL**"}.get(result["state"], result["state"])
    return f"{state}: {_cell(result['why'])}" + (
        f"; heard “{_cell(heard)}”" if heard else "; heard nothing" * (state == "**FAIL**")
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compatibility", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}; else print it")
    parser.add_argument("--quick", action="store_true", help="se-doctor --quick: without the quiet call's 25 s")
    parser.add_argument("--pre-release", metavar="PYTHON", help="an interpreter with a pre-release of elevenlabs")
    options = parser.parse_args(arguments)
    newest, newest_version = None, ""
    try:
        core = pick_cores().server
        doctor = ["--quick"] if options.quick else []
        ours, theirs = (examine(target, core, doctor) for target in TARGETS)
        if options.pre_release:
            newest_version = version_in(options.pre_release)
            newest = examine(pre_release(options.pre_release), core, doctor)
    except BenchError as error:
        print(f"No comparison: {error}", file=sys.stderr)
        return 2
    text = page(ours, theirs, newest, newest_version)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    wrong = [result["name"] for result in ours["cases"] if result["state"] == "fail"]
    if wrong:
        print(f"se-server fails: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
