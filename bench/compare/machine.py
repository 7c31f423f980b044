"""The machine, and the versions of all participants: microseconds mean little without them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["CHECKOUT", "machine", "short_name", "versions"]

CHECKOUT = Path(__file__).parents[2]
PACKAGES = (
    *("se-server", "picows", "uvloop", "orjson"),
    *("elevenlabs", "websockets", "fastapi", "uvicorn", "granian"),
)
_ASK_TIMEOUT_S = 10.0


def machine() -> dict[str, str]:
    """Return a description of the machine, as words by name."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "virtual": "yes" if re.search(r"^flags.*\bhypervisor\b", _cpuinfo(), re.MULTILINE) else "not told",
    }


def short_name(found: Mapping[str, str]) -> str:
    """Return a name for a folder: processor and cores, as in amd-epyc-2-cores."""
    return re.sub(r"[^a-z0-9]+", "-", f"{found['processor']} {found['cores']} cores".lower()).strip("-")


def versions() -> dict[str, str]:
    """Return the versions of Python, Node and the C compiler, of the packages, and of this checkout."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # its servers are left out, and the notes say so
            found[name] = version(name)
    for name, command in (("Node", ("node", "--version")), ("C compiler", (os.environ.get("CC", "cc"), "--version"))):
        if told := _ask(command):
            found[name] = told.splitlines()[0].removeprefix("v")
    if commit := _ask(("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--exclude=*")):
        found["commit"] = commit
    return found


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _processor() -> str:
    told = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return told[1].strip() if told else platform.machine()


def _ask(command: Sequence[str]) -> str | None:
    """Return the output of a program; None if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return None
    asked = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    return asked.stdout.strip() or None if asked.returncode == 0 else None
