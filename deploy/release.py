"""Checks that a release is complete: `python deploy/release.py [--tag vX.Y.Z]`.

The version stands in pyproject.toml, in the chart, and with its date in the changelog; a tag equals it.
Without a tag, the changelog may still call the version unreleased.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def found(path: str, pattern: str) -> str:
    """Return the one place that the pattern matches in a file; an empty text if it is not exactly one."""
    places = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return str(places[0]) if len(places) == 1 else ""


def faults(tag: str | None, today: date) -> list[str]:
    """Return what is missing for a release, one sentence each.

    Args:
        tag: the tag, as git has it; None checks what holds between releases.
        today: no release has a later date.
    """
    wrong = []
    version = found("pyproject.toml", r'^version = "(\d+\.\d+\.\d+)"$')
    if not version:
        return ["pyproject.toml has no version of the form 1.2.3"]
    elsewhere = {
        "version in deploy/helm/se-server/Chart.yaml": found("deploy/helm/se-server/Chart.yaml", r"^version: (.*)$"),
        "appVersion in deploy/helm/se-server/Chart.yaml": found(
            "deploy/helm/se-server/Chart.yaml", r'^appVersion: "(.*)"$'
        ),
    }
    wrong += [
        f"{place} says {other or 'nothing'}, not {version}" for place, other in elsewhere.items() if other != version
    ]
    released = found("CHANGELOG.md", rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$")
    if tag is None:
        if not released and not found("CHANGELOG.md", r"^## \[(Unreleased)\]$"):
            wrong.append(f"CHANGELOG.md has neither {version} with its date nor a part Unreleased")
        return wrong
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and the version {version}: tag v{version}, or change the version")
    if not released:
        wrong.append(f"CHANGELOG.md has no line `## [{version}] - YYYY-MM-DD`: give Unreleased its version and date")
    elif date.fromisoformat(released) > today:
        wrong.append(f"CHANGELOG.md dates {version} in the future: {released}")
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    if changed.strip():
        wrong.append("there are changes that are not committed")
    return wrong


def main() -> int:
    """Print the faults; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="the tag of the release, such as v1.2.3")
    wrong = faults(parser.parse_args().tag, date.today())
    for sentence in wrong:
        print(f"release: {sentence}", file=sys.stderr)
    if not wrong:
        print("release: complete")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
