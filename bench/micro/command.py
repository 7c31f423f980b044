"""Measure single parts: times next to other libraries, or instructions, which hardly vary and so compare versions.

Without an option it prints the tables of pytest-benchmark; unknown arguments go to pytest (-k decode). Exit code 0:
measured, or valgrind, which counts instructions, is missing; 1: a replay takes over 5% more than in BASE, or than
without an observer (also one that records `shape`), or a benchmark failed; 2: nothing could be measured.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import se_server
from bench.kernel import BenchError
from bench.micro import counting
from bench.micro.counting import Counts
from bench.micro.profile import Profile, print_profile
from bench.micro.target import OBSERVED
from bench.micro.versions import ROOT, built, check_version

__all__ = ["main"]

MAX_MORE_PERCENT = 5
LIMITED = ("events", "shape")
"""The levels of observation that may cost no more than that."""


def print_counts(now: Counts, base: Counts | None = None, ref: str | None = None) -> bool:
    """Print the table; return whether every replay that both versions have is within the limit."""
    header = f"| replay | instructions of | {f'{ref} | now | change' if base is not None else 'now'} |"
    print(f"{header}\n| --- | --- |{' ---: |' * (1 if base is None else 3)}")
    fine = True
    for name, count in now.items():
        row = f"| {name} | {counting.what(name)} |"
        if base is None:
            print(f"{row} {count:,} |")
        elif name not in base:
            print(f"{row} | {count:,} | new |")
        else:
            within = 100 * (count - base[name]) <= MAX_MORE_PERCENT * base[name]
            fine = fine and within
            print(f"{row} {base[name]:,} | {count:,} | {count / base[name] - 1:+.1%}{'' if within else ' TOO MUCH'} |")
    return fine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="se-bench micro", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--compare", metavar="BASE", help="count instructions of this version and of BASE, a git ref")
    does.add_argument("--count", action="store_true", help="count instructions")
    does.add_argument(
        "--profile", choices=counting.names(), metavar="REPLAY", help="show the distribution of a replay's instructions"
    )
    parser.add_argument(
        "--observed", nargs="?", const="events", choices=OBSERVED, metavar="|".join(OBSERVED),
        help="count instructions without and with an observer, with recordings of a level, or with traces of one turn"
        " in ten; with --profile, show the distribution with it",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", choices=counting.names(), metavar="REPLAY",
        help=f"count this; may be repeated. Replays: {', '.join(counting.names())}",
    )  # fmt: skip
    options, for_pytest = parser.parse_known_args(arguments)
    if not (options.compare or options.count or options.observed or options.profile or options.only):
        return _times(for_pytest)
    if options.observed and (options.compare or options.count):
        parser.error("--observed is no version to compare: leave out --compare and --count")
    if for_pytest:
        parser.error(f"unknown: {' '.join(for_pytest)}")
    if shutil.which("valgrind") is None:
        print("skipped: instructions are counted by valgrind, which is not installed")
        return 0
    here = Path(se_server.__file__).resolve().parents[1]
    try:
        if options.profile:
            return _profile(here, options.profile, options.observed or "")
        names = options.only or counting.names()
        if options.observed:
            plain = counting.count(here, names)
            fine = print_counts(counting.count(here, names, observed=options.observed), plain, "no observer")
            return 0 if fine or options.observed not in LIMITED else 1
        return 0 if _counts(here, names, options.compare) else 1
    except BenchError as error:
        print(f"Nothing counted: {error}", file=sys.stderr)
        return 2


def _times(arguments: Sequence[str]) -> int:
    if find_spec("pytest_benchmark") is None:
        print("Nothing measured: pip install '.[bench]'", file=sys.stderr)
        return 2
    # In a process of its own: pytest has to import the tested modules first.
    return subprocess.run(
        [sys.executable, "-m", "pytest", ROOT / "bench" / "micro", *arguments], check=False
    ).returncode


def _counts(here: Path, names: Sequence[str], ref: str | None) -> bool:
    if ref is None:
        return print_counts(counting.count(here, names))
    check_version(ref)
    with ThreadPoolExecutor(1) as pool:
        now = pool.submit(counting.count, here, names)
        with built(ref) as source:
            base = counting.count(source, names, leave_out=True)
        return print_counts(now.result(), base, ref)


def _profile(here: Path, name: str, observed: str) -> int:
    with tempfile.TemporaryDirectory() as folder, counting.replaying(here, Path(folder), observed) as target:
        target.run(name)
        print_profile(Profile.read(target.profile), counting.what(name), counting.units(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
