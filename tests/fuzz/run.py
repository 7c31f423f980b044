"""Fuzz the code that reads hostile bytes, with libFuzzer, AddressSanitizer and UBSan: `tox -e fuzz`.

    tox -e fuzz -- [TARGET ...] [--seconds N]         fuzz these targets, or all
    tox -e fuzz -- [TARGET ...] [--cpu-minutes N]     the same, limited by CPU time, for a busy machine
    tox -e fuzz -- TARGET --replay FILE               run one input again

It needs a clang with the runtimes of its sanitizers; without one it prints a line and runs nothing. The first run
builds an instrumented copy of the package, of picows and of httptools in WORK. Python modules under test are compiled
there too, so that their branches count as coverage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
WORK = ROOT / ".tox" / "fuzz-work"
LIB = WORK / "lib"
PROGRAM = WORK / "fuzz"
TARGETS = ("wire", "delta", "scan", "listener", "head", "control", "children", "orders", "proxies", "handover")
PYTHON = (
    "server/shared/control", "server/listen/proxy", "server/door/clients", "server/supervisor/orders",
    "server/supervisor/control_socket", "server/supervisor/upgrade", "server/supervisor/zygote_process",
    "server/supervisor/worker_events",
)  # fmt: skip
"""Modules under test that are Python in the package: compiled for the fuzzer, so that their branches count."""
SANITIZERS = "address,undefined"
# Cython adds 0 to a null pointer for a call without arguments: undefined in C before C2y, and harmless.
FLAGS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-fno-sanitize=pointer-overflow"]
MAX_INPUT_BYTES = 4096
BUILD_TIMEOUT_S = 900.0
LOOK_S = 1.0


def find_clang() -> str | None:
    """Return a clang that can link libFuzzer and the sanitizers: CLANG, or the newest one on the path."""
    names = [os.environ.get("CLANG"), "clang", *(f"clang-{version}" for version in range(25, 13, -1))]
    return next((path for name in names if name and (path := shutil.which(name)) and can_fuzz(path)), None)


def can_fuzz(clang: str) -> bool:
    """Whether clang's runtimes are installed: distributions package them separately."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return 0; }\n")
        command = [clang, f"-fsanitize=fuzzer,{SANITIZERS}", str(source), "-o", str(source.with_suffix(""))]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        return not subprocess.run([source.with_suffix(""), "-runs=1"], capture_output=True, check=False).returncode


def build(clang: str) -> None:
    """Build the instrumented modules and the program that drives them."""
    tools = {"CC": clang, "CXX": clang, "LDSHARED": f"{clang} -shared"}
    # Dependencies are built without UBSan: picows reads a frame's mask unaligned.
    theirs = os.environ | tools | {"CFLAGS": " ".join(["-fsanitize=fuzzer-no-link,address", *FLAGS])}
    ours = os.environ | tools | {"CFLAGS": " ".join([f"-fsanitize=fuzzer-no-link,{SANITIZERS}", *FLAGS])}

    def run(environment: dict[str, str], *command: str | Path) -> None:
        done = subprocess.run(
            [str(part) for part in command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=BUILD_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode:
            output = done.stdout[-4000:] + done.stderr[-4000:]
            sys.exit(f"fuzz: the build failed: {' '.join(map(str, command))}\n{output}")

    made_with, stamp = WORK / "made-with", f"{sys.version}\n{clang}\n{theirs['CFLAGS']}\n{ours['CFLAGS']}\n"
    if not made_with.exists() or made_with.read_text() != stamp:
        shutil.rmtree(WORK / "build", ignore_errors=True)
        shutil.rmtree(LIB, ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        made_with.write_text(stamp)
    for name in ("picows", "httptools"):
        wanted = f"{name}=={importlib.metadata.version(name)}"
        if not list(LIB.glob(f"{wanted.replace('==', '-')}.dist-info")):
            print(f"fuzz: building {wanted} from source", flush=True)
            run(
                theirs, sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-cache-dir", "--upgrade",
                "--no-binary", name, "--target", LIB, wanted,
            )  # fmt: skip
    print("fuzz: building se-server", flush=True)
    run(ours, sys.executable, "setup.py", "-q", "build", "--build-base", WORK / "build", "--build-lib", LIB)
    for module in PYTHON:
        compile_python(module, clang, ours, run)
    include, library = sysconfig.get_path("include"), sysconfig.get_config_var("LDVERSION")
    folders = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL")]
    # Modules that are loaded later use the sanitizers' functions in the program, which has to export them.
    run(
        ours, clang, *FLAGS, f"-fsanitize=fuzzer,{SANITIZERS}", f'-DSE_FUZZ_PYTHON="{sys.executable}"', f"-I{include}",
        HERE / "driver.c", "-rdynamic", *(f"-L{folder}" for folder in folders), f"-lpython{library}",
        *(f"-Wl,-rpath,{folder}" for folder in folders), "-ldl", "-lm", "-lutil", "-lpthread", "-o", PROGRAM,
    )  # fmt: skip


def compile_python(module: str, clang: str, environment: dict[str, str], run: Callable[..., None]) -> None:
    """Compile a Python module beside its copy in LIB: an extension is imported rather than a source."""
    source = ROOT / "src" / "se_server" / f"{module}.py"
    made = LIB / "se_server" / f"{module}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if made.exists() and made.stat().st_mtime > source.stat().st_mtime:
        return
    code = WORK / "build" / f"{module.replace('/', '.')}.c"
    name = f"se_server.{module.replace('/', '.')}"
    run(environment, sys.executable, "-m", "cython", "-3", "-X", "annotation_typing=False", "--module-name", name,
        source, "-o", code)  # fmt: skip
    run(environment, clang, *environment["CFLAGS"].split(), "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}",
        code, "-o", made)  # fmt: skip


def environment_of(target: str) -> dict[str, str]:
    return os.environ | {
        "SE_FUZZ_TARGET": f"tests.fuzz.{target}",
        "PYTHONPATH": os.pathsep.join([str(LIB), str(ROOT)]),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        # pymalloc would hide reads beyond an object's end; leaks are off, as the interpreter frees little at its end.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def fuzz(target: str, seconds: int, cpu_seconds: float, options: list[str]) -> bool:
    """Fuzz one target and print the result; return whether nothing was found.

    Args:
        seconds: limit in seconds; 0 for none.
        cpu_seconds: limit of CPU time.
        options: further options of libFuzzer.
    """
    corpus, found = WORK / "corpus" / target, WORK / "found" / target
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    log = WORK / f"{target}.log"
    command = [
        str(PROGRAM), str(corpus), str(HERE / "corpus" / target), f"-dict={HERE / 'dictionaries' / target}.dict",
        f"-artifact_prefix={found}/", f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}",
        "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", *options,
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment_of(target), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code, used_s = wait(process, cpu_seconds)
        finally:
            process.kill()
    text = log.read_text(errors="replace")
    line = f"{summary(text)}, {used_s / 60:.1f} CPU minutes"
    if code == 0:
        print(f"{target}: {line}, nothing found", flush=True)
        return True
    print(f"{target}: {line}, FOUND SOMETHING (all of it in {log.relative_to(ROOT)})", flush=True)
    reasons = re.findall(r"^(?:\w*(?:Error|Exception)\b.*|.*runtime error:.*|SUMMARY: .*)$", text, re.MULTILINE)
    for reason in reasons[:5]:
        print(f"    {reason[:300]}")
    for path in sorted(set(found.iterdir()) - before):
        print(f"    again: tox -e fuzz -- {target} --replay {path.relative_to(ROOT)}", flush=True)
    return False


def wait(process: subprocess.Popen[bytes], cpu_seconds: float) -> tuple[int, float]:
    """Wait for the end, and request it once the CPU time is used up; return the exit code and the CPU time."""
    before_s = children_s()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
            break
        with contextlib.suppress(OSError):  # no /proc, or the process has just ended
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            if sum(map(int, stat[11:13])) / os.sysconf("SC_CLK_TCK") >= cpu_seconds:
                process.send_signal(signal.SIGUSR1)  # libFuzzer ends as after its time limit
    return process.returncode, children_s() - before_s


def children_s() -> float:
    """Return the CPU time of ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(text: str) -> str:
    """Return libFuzzer's figures: inputs, their speed, coverage, the corpus, memory."""
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", text, re.MULTILINE))
    coverage = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)/", text)
    edges, features, corpus = coverage[-1] if coverage else ("0", "0", "0")
    counters = sum(map(int, re.findall(r"Loaded \d+ modules\s+\((\d+) inline", text)))
    return (
        f"{int(stats.get('number_of_executed_units', 0)):,} inputs ({int(stats.get('average_exec_per_sec', 0)):,}/s), "
        f"{int(edges):,} of {counters:,} edges, {int(features):,} features, corpus of {corpus}, "
        f"{stats.get('peak_rss_mb', '?')} MB"
    )


def replay(target: str, path: Path) -> int:
    return subprocess.run(
        [str(PROGRAM), str(path.resolve())], env=environment_of(target), cwd=ROOT, check=False
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without one")
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    parser.add_argument("--seconds", type=int, default=seconds, help="for each target; FUZZ_SECONDS or 60 without it")
    parser.add_argument("--cpu-minutes", type=float, metavar="N", help="for each target, instead of --seconds")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input of TARGET again")
    parser.add_argument(
        "--option", action="append", default=[], metavar="-NAME=VALUE", help="a further option for libFuzzer"
    )
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if given.replay is not None and (len(given.targets) != 1 or not given.replay.is_file()):
        parser.error("--replay takes one TARGET and the file of an input")
    clang = find_clang()
    if clang is None:
        print("fuzz: skipped: no clang with libFuzzer and sanitizers (Debian: clang and libclang-rt-dev; or set CLANG)")
        return 0
    build(clang)
    if given.replay is not None:
        return replay(given.targets[0], given.replay)
    minutes = given.cpu_minutes
    limits = (given.seconds, math.inf) if minutes is None else (0, minutes * 60)
    results = [fuzz(target, *limits, given.option) for target in given.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
