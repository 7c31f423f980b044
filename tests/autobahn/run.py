"""Run the Autobahn testsuite against the shipped connection code: `tox -e autobahn`.

The fuzzing client needs Python 2.7; where there is none, one line says so and nothing is run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from se_server.conversation import connection
from se_server.conversation.settings import SessionSettings
from se_server.engine.server import SpeechEngineServer

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".tox" / "autobahn-work"
SUITE = "autobahntestsuite==25.10.1"
SECTIONS = ("1", "2", "3", "4", "5", "6", "7", "9", "10")
CASES = 301  # in these sections
RUN_TIMEOUT_S = 300.0
SETTINGS = SessionSettings(max_message_bytes=16 * 1024 * 1024, max_fragments=2 * 65536)  # for section 9


def find_python27() -> str | None:
    """Return an interpreter that runs: named by PYTHON27, on the path, or one of pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [os.environ.get("PYTHON27"), shutil.which("python2.7"), *map(str, versions.glob("2.7*/bin/python2.7"))]
    return next((python for python in found if python and runs(python)), None)


def runs(python: str) -> bool:
    """Whether it is there and starts; pyenv puts a program on the path that only says what is not active."""
    try:
        return subprocess.run([python, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def install_suite(python27: str) -> Path:
    """Return the testsuite's program, installed once (about a minute)."""
    program = WORK / "py27" / "bin" / "wstest"
    if not program.exists():
        print(f"installing {SUITE}", flush=True)
        subprocess.run([sys.executable, "-m", "virtualenv", "-q", "-p", python27, WORK / "py27"], check=True)
        subprocess.run([program.with_name("python"), "-m", "pip", "install", "-q", SUITE], check=True)
    return program


def build_echo() -> None:
    """Compile `_echo.pyx` against the declarations of this tree, and make the hand-over use it."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = str(Path(__file__).with_name("_echo.pyx").relative_to(ROOT))
    modules = cythonize(
        [Extension("_echo", [source])],
        include_path=[str(ROOT / "ext")],
        build_dir=str(WORK / "build"),
        language_level=3,
        force=True,  # the .pxd of the shipped module may have changed
        quiet=True,
    )
    build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    build.build_lib = build.build_temp = str(WORK / "build")  # type: ignore[attr-defined]
    build.force = True
    build.ensure_finalized()
    build.run()
    sys.path.insert(0, str(WORK / "build"))
    import _echo  # type: ignore[import-not-found]

    connection.Connection = _echo.EchoConnection  # type: ignore[misc]


async def ignore(*_args: object) -> None:
    """Handle an error by nothing: hardly any message of the suite is JSON."""


async def fuzz(program: Path) -> None:
    """Serve on a free port and let the fuzzing client loose on it."""
    server = SpeechEngineServer(port=0, host="127.0.0.1", disable_auth=True, drain_timeout_s=0.0, on_error=ignore)
    server._settings = SETTINGS
    warnings.simplefilter("ignore", UserWarning)  # authentication is off on purpose
    serving = asyncio.create_task(server.serve())
    await server.wait_ready()
    spec = {
        "outdir": str(WORK / "reports"),
        "servers": [{"agent": "se-server", "url": f"ws://127.0.0.1:{server.port}"}],
        "cases": [f"{section}.*" for section in SECTIONS],
    }
    (WORK / "spec.json").write_text(json.dumps(spec))
    client = await asyncio.create_subprocess_exec(
        program, "-m", "fuzzingclient", "-s", WORK / "spec.json", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(client.wait(), RUN_TIMEOUT_S)
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
        await server.stop()
        await serving


def verdict(case: dict[str, Any]) -> str:
    """Return what counts for a case: its behaviour, unless only the close was wrong."""
    behaviour, close = case["behavior"], case["behaviorClose"]
    if behaviour in ("OK", "INFORMATIONAL", "NON-STRICT") and close not in ("OK", "INFORMATIONAL"):
        return "FAILED"
    return behaviour if behaviour in ("OK", "INFORMATIONAL", "NON-STRICT") else "FAILED"


def summarise(cases: dict[str, dict[str, Any]]) -> int:
    """Print the summary; return the exit code."""
    verdicts = {name: verdict(case) for name, case in cases.items()}
    total = Counter(verdicts.values())
    for section in SECTIONS:
        count = Counter(verdicts[name] for name in cases if name.split(".")[0] == section)
        print(f"section {section:>2}: " + ", ".join(f"{number} {kind}" for kind, number in sorted(count.items())))
    print(
        f"{total['OK']} of {len(cases) - total['INFORMATIONAL']} strict, {total['NON-STRICT']} non-strict, "
        f"{total['FAILED']} failed; {total['INFORMATIONAL']} informational"
    )
    bad = [name for name, kind in verdicts.items() if kind not in ("OK", "INFORMATIONAL")]
    for name in sorted(bad, key=lambda name: [int(part) for part in name.split(".")]):
        print(f"{name}: {cases[name]['behavior']}, close {cases[name]['behaviorClose']}")
    if len(cases) != CASES:
        print(f"{len(cases)} cases were run instead of {CASES}")
    return 1 if bad or len(cases) != CASES else 0


def main() -> int:
    """Run everything; return the exit code."""
    python27 = find_python27()
    if python27 is None:
        print("skipped: the Autobahn testsuite needs a Python 2.7 (PYTHON27 names one)")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(WORK / "reports", ignore_errors=True)
    os.chdir(ROOT)
    program = install_suite(python27)
    build_echo()
    # A hostile peer's messages are no news here; what would be a bug of ours is logged as an error.
    logging.basicConfig(level=logging.ERROR)
    uvloop.run(fuzz(program))
    cases: dict[str, dict[str, Any]] = json.loads((WORK / "reports" / "index.json").read_text())["se-server"]
    return summarise(cases)


if __name__ == "__main__":
    sys.exit(main())
