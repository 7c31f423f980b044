"""Counts the instructions of replays, by valgrind's callgrind: next to no noise, so that versions can be compared.

One process runs all replays. Whenever it calls `target.MARK`, callgrind writes its counts and starts from zero again,
so the file written at a replay's second mark has the counts of that replay.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.kernel import BenchError
from bench.micro.caller import CALLS
from bench.micro.replays import REPLAYS
from bench.micro.target import MARK
from bench.micro.versions import ROOT

__all__ = ["Counts", "NotThere", "Replayed", "count", "names", "replaying", "units", "what"]

START_TIMEOUT_S = 180.0
REPLAY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0

Counts = Mapping[str, int]
"""Instructions of a unit, by the replay's name."""


def names() -> list[str]:
    """Return the names of all replays, in the order of the table."""
    return [*CALLS, *REPLAYS]


def what(name: str) -> str:
    """Return the description of one unit of a replay."""
    return CALLS[name].what if name in CALLS else REPLAYS[name].what


def units(name: str) -> int:
    """Return the number of counted units of a replay."""
    return CALLS[name].units if name in CALLS else REPLAYS[name].units * REPLAYS[name].rounds


class NotThere(BenchError):
    """The version under test has no such part."""


class Replayed:
    """A running target.

    Args:
        source: the folder of its `se_server`.
        folder: callgrind's output folder; None runs without callgrind, and counts nothing.
        observed: what it writes for an observer, one of `OBSERVED`; empty for nothing.

    Raises:
        BenchError: it does not start.
    """

    def __init__(self, source: Path, folder: Path | None, observed: str = "") -> None:
        self._folder = folder
        command = [sys.executable, "-m", "bench.micro.target", *(["--observed", observed] if observed else [])]
        if folder is not None:
            options = [f"--callgrind-out-file={folder / 'callgrind'}", f"--dump-before={MARK}"]
            command = ["valgrind", "--quiet", "--tool=callgrind", *options, *command]
        path = os.pathsep.join((str(source), str(ROOT)))
        # Hashes are the same in every run, so that dicts and sets have the same layout.
        env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            said = self._hear(START_TIMEOUT_S)
            if not said.startswith("ready "):
                raise BenchError(f"the server printed {said!r} instead of its port; the reason is above")
        except BaseException:
            self.kill()
            raise
        self.port = int(said.split()[1])

    def run(self, name: str) -> None:
        """Run one replay.

        Raises:
            NotThere: the version has no such part.
            BenchError: the replay gave a wrong result.
        """
        if name in CALLS:
            call = CALLS[name]
            call.hold(self.port, lambda begins: self._order("begin" if begins else "end"), call.units)
        else:
            self._order(f"run {name}")

    @property
    def profile(self) -> Path:
        """callgrind's file on the last replay.

        Raises:
            BenchError: there is none.
        """
        parts = (
            {} if self._folder is None else {int(file.suffix[1:]): file for file in self._folder.glob("callgrind.*")}
        )
        if not parts:
            raise BenchError(
                f"callgrind wrote nothing when {MARK}() was called: has it another name in this C library?"
            )
        return parts[max(parts)]

    def _order(self, order: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{order}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError("the server has ended; the reason is above") from None
        said = self._hear(REPLAY_TIMEOUT_S)
        if said.startswith("failed "):
            raise NotThere(f"{order} {said.strip()}")
        if said != "done\n":
            raise BenchError(f"the server printed {said!r} after the order {order!r}; the reason is above")

    def _hear(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise BenchError(f"the server printed nothing for {timeout_s:.0f} s")
        return self._process.stdout.readline()

    def end(self) -> None:
        """Stop the target.

        Raises:
            BenchError: it did not end, or ended with an error.
        """
        try:
            self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the server did not end within {STOP_TIMEOUT_S:.0f} s") from None
        if self._process.returncode:
            raise BenchError(f"the server ended with status {self._process.returncode}; its output is above")

    def kill(self) -> None:
        """Kill the target."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def replaying(source: Path, folder: Path | None, observed: str = "") -> Iterator[Replayed]:
    """Run a target until the end of the block; see `Replayed`."""
    target = Replayed(source, folder, observed)
    try:
        yield target
        target.end()
    finally:
        target.kill()


def count(source: Path, wanted: Sequence[str], *, leave_out: bool = False, observed: str = "") -> Counts:
    """Return the instructions of a unit of each replay, for the `se_server` in `source`.

    Args:
        wanted: names of replays.
        leave_out: whether to leave out parts that this version lacks.
        observed: what is written for an observer, one of `OBSERVED`; empty for nothing.

    Raises:
        BenchError: it could not be counted.
    """
    counts = {}
    with tempfile.TemporaryDirectory() as folder, replaying(source, Path(folder), observed) as target:
        for name in wanted:
            try:
                target.run(name)
            except NotThere:
                if not leave_out:
                    raise
            else:
                counts[name] = round(_total(target.profile) / units(name))
    return counts


def _total(profile: Path) -> int:
    totals = re.search(r"^totals: (\d+)", profile.read_text(errors="replace"), re.MULTILINE)
    if totals is None:
        raise BenchError(f"callgrind's file has no total: {profile.read_text(errors='replace')[:200]!r}")
    return int(totals[1])
