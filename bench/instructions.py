"""Instructions that a turn costs the server, counted by valgrind: next to no noise, so that versions can be compared.

`python -m bench.instructions [--compare GIT_REF]`. Exit code 0: counted, or valgrind is missing; 1: a turn costs over
5% more than in GIT_REF; 2: it could not be counted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import se_server
from bench.kernel import BenchError
from bench.load.conversations import Scenario, Script
from bench.load.frames import HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = tuple(Scenario(chunks, history, conversations=1) for chunks in (1, 32) for history in (4, 100))
SHORT_TURNS, LONG_TURNS = 200, 2_200
"""The difference of two runs is divided by the difference of their turns: start, handshake and end cancel out."""
MAX_MORE_PERCENT = 5
START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
RUNS_AT_ONCE = 2

Counts = Mapping[Scenario, int]


def replay(port: int, scenario: Scenario, turns: int) -> None:
    """Hold one conversation of so many turns, the next after the answer of the last, and check each.

    Raises:
        BenchError: an answer was wrong, or did not come.
    """
    script = Script(scenario, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as sock:
            sock.sendall(upgrade_request("/ws", API_KEY))
            head = _read_until(sock, HEAD_END)
            if b" 101 " not in head:
                raise BenchError(f"the upgrade was answered {head[:40]!r}")
            sock.sendall(client_frame(TEXT, script.init()))
            for event_id in range(1, turns + 1):
                sock.sendall(client_frame(TEXT, script.transcript(event_id)))
                answer = _read_until(sock, b'"is_final":true}')
                chunks = answer.count(b'"event_id":%d,"is_final":false}' % event_id)
                if chunks != scenario.chunks or not answer.endswith(b'"event_id":%d,"is_final":true}' % event_id):
                    raise BenchError(f"turn {event_id} of {scenario} got a wrong answer: {answer[-200:]!r}")
    except OSError as error:
        raise BenchError(f"the server did not answer: {error!r}") from None


def _read_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = sock.recv(1 << 18)
        if not data:
            raise BenchError(f"the server hung up after {received[-200:]!r}")
        received += data
    return received


def count_run(source: Path, scenario: Scenario, turns: int) -> int:
    """Run the server from `source` under callgrind for so many turns; return all instructions of the process."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "callgrind.out")
        command = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        command += [sys.executable, "-m", "bench.load.targets.replay_target"]
        path = os.pathsep.join((str(source), str(ROOT)))
        # Hashes that are the same in every run, so that dicts and sets are laid out alike.
        env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        try:
            replay(_port_of(process), scenario, turns)
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the server did not end within {STOP_TIMEOUT_S:.0f} s") from None
        finally:
            process.kill()
            process.communicate()
        totals = re.search(r"^(?:totals|summary): (\d+)", profile.read_text(errors="replace"), re.MULTILINE)
    if process.returncode or totals is None:
        raise BenchError(f"the server ended with status {process.returncode}; what it said stands above")
    return int(totals[1])


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    # A start that hangs is ended here, which ends the line that is waited for.
    with ThreadPoolExecutor(1) as reader:
        line = reader.submit(process.stdout.readline)
        try:
            said = line.result(START_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            raise BenchError(f"the server was not ready within {START_TIMEOUT_S:.0f} s") from None
    if not said.startswith("ready "):
        raise BenchError(f"the server said {said!r} instead of its port; the reason stands above")
    return int(said.split()[1])


def count(source: Path) -> Counts:
    """Return the instructions of a turn in each scenario, for the `se_server` in `source`."""
    with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
        runs = {
            scenario: [pool.submit(count_run, source, scenario, turns) for turns in (SHORT_TURNS, LONG_TURNS)]
            for scenario in SCENARIOS
        }
        try:
            totals = {scenario: [run.result() for run in pair] for scenario, pair in runs.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {scenario: round((long - short) / (LONG_TURNS - SHORT_TURNS)) for scenario, (short, long) in totals.items()}


@contextmanager
def built(ref: str) -> Iterator[Path]:
    """Check a version out beside this one and build its extensions; give the folder of its package.

    Raises:
        BenchError: there is no such version, or it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "base")
        try:
            _do("git", "worktree", "add", "--detach", str(tree), ref, cwd=ROOT)
            _do(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree)
            yield tree / "src"
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, capture_output=True, check=False
            )


def _do(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {done.stdout.strip()[-500:]}")


def print_counts(now: Counts, base: Counts | None, ref: str | None) -> bool:
    """Print the table; return whether every turn is within the limit."""
    header = f"| instructions a turn | {f'{ref} | now | change' if base else 'now'} |"
    print(f"{header}\n| --- |{' ---: |' * (3 if base else 1)}")
    fine = True
    for scenario, instructions in now.items():
        if base is None:
            print(f"| {scenario} | {instructions:,} |")
            continue
        within = 100 * (instructions - base[scenario]) <= MAX_MORE_PERCENT * base[scenario]
        fine = fine and within
        change = f"{instructions / base[scenario] - 1:+.1%}{'' if within else ' TOO MUCH'}"
        print(f"| {scenario} | {base[scenario]:,} | {instructions:,} | {change} |")
    return fine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--compare", metavar="GIT_REF", help="count this version as well, and fail above 5%% more")
    ref = parser.parse_args(arguments).compare
    if shutil.which("valgrind") is None:
        print("skipped: instructions are counted by valgrind, which is not installed")
        return 0
    try:
        base = None
        if ref is not None:
            with built(ref) as source:
                base = count(source)
        now = count(Path(se_server.__file__).resolve().parents[1])
    except BenchError as error:
        print(f"Nothing counted: {error}", file=sys.stderr)
        return 2
    return 0 if print_counts(now, base, ref) else 1


if __name__ == "__main__":
    sys.exit(main())
