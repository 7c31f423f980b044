"""Run the Autobahn testsuite against the shipped connection code, without TLS and with it: `tox -e autobahn`.

The fuzzing client needs Python 2.7; without one the program prints a line and runs nothing. With `--write` the table of
the results is also written to docs/hardening.md.
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
from ssl import SSLContext
from typing import Any

import trustme
import uvloop

from se_server.conversation import host
from se_server.sdk.server import SpeechEngineServer
from se_server.server.listen.tls import make_context

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "hardening.md"
TABLE_BEGIN, TABLE_END = "<!-- autobahn: begin -->", "<!-- autobahn: end -->"
WORK = ROOT / ".tox" / "autobahn-work"
SUITE = "autobahntestsuite==25.10.1"
SECTIONS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handshake",
    "9": "limits and performance",
    "10": "automatic fragmentation",
}
KINDS = ("OK", "NON-STRICT", "FAILED", "INFORMATIONAL")
CASES = 301  # in these sections
RUN_TIMEOUT_S = 300.0
MAX_MESSAGE_BYTES, MAX_FRAGMENTS = 16 * 1024 * 1024, 2 * 65536  # for section 9


def find_python27() -> str | None:
    """Return a working Python 2.7: PYTHON27, one on the path, or one of pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [os.environ.get("PYTHON27"), shutil.which("python2.7"), *map(str, versions.glob("2.7*/bin/python2.7"))]
    return next((python for python in found if python and runs(python)), None)


def runs(python: str) -> bool:
    """Whether an interpreter exists and starts; pyenv's program on the path may only report an inactive version."""
    try:
        return subprocess.run([python, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def install_suite(python27: str) -> Path:
    """Return the testsuite's program, which the first run installs (about a minute)."""
    program = WORK / "py27" / "bin" / "wstest"
    if not program.exists():
        print(f"installing {SUITE}", flush=True)
        subprocess.run([sys.executable, "-m", "virtualenv", "-q", "-p", python27, WORK / "py27"], check=True)
        subprocess.run([program.with_name("python"), "-m", "pip", "install", "-q", SUITE], check=True)
    return program


def build_echo() -> None:
    """Compile `_echo.pyx` against the declarations of this tree, and use it for accepted connections."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = str(Path(__file__).with_name("_echo.pyx").relative_to(ROOT))
    modules = cythonize(  # type: ignore[no-untyped-call]
        [Extension("_echo", [source])],
        include_path=[str(ROOT / "ext")],
        build_dir=str(WORK / "build"),
        language_level=3,
        force=True,  # the .pxd of the shipped module may have changed
        quiet=True,
    )
    build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    build.build_lib = build.build_temp = str(WORK / "build")
    build.force = True
    build.ensure_finalized()
    build.run()
    sys.path.insert(0, str(WORK / "build"))
    import _echo  # type: ignore[import-not-found]

    vars(host)["Connection"] = _echo.EchoConnection


async def ignore(*_args: object) -> None:
    """Ignore an error: hardly any message of the suite is JSON."""


def tls_context() -> SSLContext:
    """Make a certificate for this run, as for `--certfile`; the fuzzing client does not verify it."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    path = WORK / "certificate.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    context = make_context(str(path), None, None)
    assert context is not None
    return context


async def fuzz(program: Path, scheme: str) -> None:
    """Serve on a free port, as `ws` or `wss`, and run the fuzzing client against it."""
    server = SpeechEngineServer(
        port=0,
        host="127.0.0.1",
        disable_auth=True,
        drain_timeout_s=0.0,
        on_error=ignore,
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_fragments=MAX_FRAGMENTS,
        ssl=tls_context() if scheme == "wss" else None,
    )
    warnings.simplefilter("ignore", UserWarning)  # authentication is off
    serving = asyncio.create_task(server.serve())
    await server.wait_ready()
    spec = {
        "outdir": str(WORK / "reports" / scheme),
        "servers": [{"agent": "se-server", "url": f"{scheme}://127.0.0.1:{server.port}"}],
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
    """Return the verdict on a case: its behaviour, unless only the close was wrong."""
    behaviour, close = case["behavior"], case["behaviorClose"]
    if behaviour in ("OK", "INFORMATIONAL", "NON-STRICT") and close not in ("OK", "INFORMATIONAL"):
        return "FAILED"
    return behaviour if behaviour in ("OK", "INFORMATIONAL", "NON-STRICT") else "FAILED"


def results(scheme: str) -> dict[str, str]:
    """Return the verdict on each case of a run; print those that are not good."""
    cases: dict[str, dict[str, Any]] = json.loads((WORK / "reports" / scheme / "index.json").read_text())["se-server"]
    verdicts = {name: verdict(case) for name, case in cases.items()}
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        if verdicts[name] not in ("OK", "INFORMATIONAL"):
            print(f"{scheme}, case {name}: {cases[name]['behavior']}, close {cases[name]['behaviorClose']}")
    return verdicts


def table(runs: dict[str, dict[str, str]]) -> str:
    """Write the verdicts as Markdown, a row for each section and four columns for each run."""
    columns = [f"{scheme}: strict" if kind == "OK" else kind.lower() for scheme in runs for kind in KINDS]
    lines = [
        f"| section | subject | {' | '.join(columns)} |",
        f"| --- | --- |{' ---: |' * len(columns)}",
    ]
    for section, about in SECTIONS.items():
        counts = [Counter(kind for name, kind in run.items() if name.split(".")[0] == section) for run in runs.values()]
        cells = [str(count[kind]) for count in counts for kind in KINDS]
        lines.append(f"| {section} | {about} | {' | '.join(cells)} |")
    cells = []
    for run in runs.values():
        total = Counter(run.values())
        cells += [f"**{total['OK']} of {len(run) - total['INFORMATIONAL']}**"]
        cells += [f"**{total['NON-STRICT']}**", f"**{total['FAILED']}**", str(total["INFORMATIONAL"])]
    return "\n".join([*lines, f"| all | | {' | '.join(cells)} |"])


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
    # A hostile peer's messages are expected here; our own bugs are logged as errors.
    logging.basicConfig(level=logging.ERROR)
    runs = {}
    for scheme in ("ws", "wss"):
        uvloop.run(fuzz(program, scheme))
        runs[scheme] = results(scheme)
    print(table(runs))
    if "--write" in sys.argv[1:]:
        before, _, rest = DOCUMENT.read_text().partition(TABLE_BEGIN)
        after = rest.partition(TABLE_END)[2]
        DOCUMENT.write_text(f"{before}{TABLE_BEGIN}\n{table(runs)}\n{TABLE_END}{after}")
    complete = True
    for scheme, verdicts in runs.items():
        if len(verdicts) != CASES:
            print(f"{scheme}: {len(verdicts)} cases were run instead of {CASES}")
            complete = False
    bad = {kind for verdicts in runs.values() for kind in verdicts.values()} - {"OK", "INFORMATIONAL"}
    return 1 if bad or not complete else 0


if __name__ == "__main__":
    sys.exit(main())
