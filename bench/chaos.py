"""Chaos: every few seconds a random worker is killed, stopped, hung in a handler or leaks, under many conversations.

`python -m bench.chaos [--minutes M]`; with `--preload` the zygote of the workers is killed and stopped, too. Only the
victim's conversations may end; every handshake that begins meanwhile succeeds within 2 s; afterwards there are no
zombies and no leaked descriptors, and the scoreboard's counts equal the callers'. Exit code 0: all of it held; 1:
something did not; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bench.chaos_callers import GIVE_UP_S, Call, Tally
from bench.chaos_recordings import check_recordings
from bench.kernel import BenchError
from bench.load.serving import Service, serving
from se_server.cli.ctl import CtlError, ask
from se_server.server.shared.recording import LEVELS

AGENT = Path(__file__).with_name("chaos_agent.py")
ROOT = Path(__file__).resolve().parents[1]

T = TypeVar("T", bound=Tally)

WORKERS = 4
CALLS = 200
HANG_TIMEOUT_S = 2.0
MAX_RSS = "128MiB"
PAUSE_S = (2.5, 5.0)
"""Pause between two harms: long enough to replace the previous victim, so that only one is out of order at a time."""
HARMS = ("kill", "stop", "hang", "leak")
OF_ZYGOTES = ("kill zygote", "stop zygote")


# --- the server, from outside ---


class ServerOfChaos:
    """The server, its log and its `se-ctl`."""

    def __init__(self, service: Service) -> None:
        self.process = service.process
        self.log = service.log_path
        self.port = urlsplit(service.url).port or 0
        self._socket = service.control_socket

    def status(self) -> dict[str, Any]:
        """Ask for the status.

        Raises:
            BenchError: the server does not answer.
        """
        try:
            return ask(self._socket, "status")
        except CtlError as error:
            raise BenchError(str(error)) from None

    def settled(self, workers: int) -> dict[str, Any] | None:
        """Return the status once all `workers` are ready and without conversations; None if that takes too long."""
        deadline = time.monotonic() + GIVE_UP_S + 10
        while time.monotonic() < deadline:
            status = self.status()
            rows = status["workers"]
            totals = status["totals"]  # a heartbeat later than the sessions, which are exact
            if (
                len(rows) == workers
                and all(row["state"] == "ready" and not row["sessions"] for row in rows)
                and all(row["state"] == "ready" for row in status["zygotes"])
                and (totals["sessions_closed"] == totals["sessions_opened"] or time.monotonic() > deadline - 1)
            ):
                return status
            time.sleep(0.1)
        return None

    def descriptors(self, pid: int) -> Counter[str]:
        """Count a process's open descriptors by kind."""
        names = []
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                names.append(os.readlink(f"/proc/{pid}/fd/{entry}").partition(":")[0])
        return Counter(names)

    def descriptors_at_rest(self, pid: int) -> Counter[str]:
        """Count them once they have stayed the same for a while: the last status request may still be closing."""
        now, same = self.descriptors(pid), 0
        while same < 5:
            time.sleep(0.05)
            before, now = now, self.descriptors(pid)
            same = same + 1 if now == before else 0
        return now

    def zombies(self) -> list[int]:
        """Return the children of the supervisor that have ended and were not reaped."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                state, parent = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(") ")[2].split()[:2]
                if state == "Z" and int(parent) == self.process.pid:
                    found.append(int(entry))
        return found


@contextmanager
def running(workers: int, agent: Path = AGENT, *options: str) -> Iterator[ServerOfChaos]:
    """Run the server until the end of the block."""
    given = ("--hang-timeout-s", str(HANG_TIMEOUT_S), "--max-worker-rss", MAX_RSS, "--drain-timeout-s", "1", *options)
    with serving(*given, workers=workers, agent=agent) as service:
        yield ServerOfChaos(service)


# --- the run ---


async def harm(server: ServerOfChaos, calls: Sequence[Call], tally: Tally, until: float, harms: Sequence[str]) -> None:
    """Harm one worker after the other, each kind in turn."""
    done = 0
    while time.monotonic() < until:
        status = await asyncio.to_thread(server.status)
        well = {
            row["pid"]
            for row in status["workers"]
            if row["state"] == "ready" and row["silent_s"] is not None and row["silent_s"] < 1
        }
        well -= {*tally.harms, *tally.leaks}
        kind = harms[done % len(harms)]
        if kind in OF_ZYGOTES:
            done += 1
            for row in status["zygotes"]:
                with suppress(ProcessLookupError):  # it has just ended
                    if row["pid"]:
                        os.kill(row["pid"], signal.SIGKILL if kind == "kill zygote" else signal.SIGSTOP)
                        tally.zygotes += 1
            continue  # with the next worker that is harmed
        their_calls = [call for call in calls if call.pid in well]
        if len(well) < 2 or not their_calls:
            await asyncio.sleep(0.1)
            continue
        done += 1
        call = random.choice(their_calls)
        pid = call.pid
        if kind == "leak":
            tally.leaks.add(pid)
            call.do("leak")
        elif kind == "hang":
            call.do("hang")  # which tells when it does
        else:
            tally.harms[pid] = time.monotonic()
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        await asyncio.sleep(random.uniform(*PAUSE_S))


async def hold(server: ServerOfChaos, tally: Tally, calls: int, seconds: float, harms: Sequence[str]) -> None:
    """Hold the conversations, and harm the workers meanwhile."""
    until = time.monotonic() + seconds
    callers = [Call(server.port, tally, number) for number in range(calls)]
    ends = until - 2 * HANG_TIMEOUT_S if harms else 0.0
    await asyncio.gather(harm(server, callers, tally, ends, harms), *(caller.run(until) for caller in callers))


def judge(server: ServerOfChaos, tally: Tally, workers: int, before: dict[str, Counter[str]]) -> None:
    """Examine the server after the run, and add to the faults."""
    status = server.settled(workers)
    if status is None:
        tally.faults.append(f"the server did not come back to {workers} ready workers without conversations")
        return
    if zombies := server.zombies():
        tally.faults.append(f"{len(zombies)} processes were not reaped")
    if (now := server.descriptors_at_rest(server.process.pid)) != before["supervisor"]:
        tally.faults.append(f"the supervisor's descriptors were {dict(before['supervisor'])}, and are {dict(now)}")
    for row in status["workers"]:
        sockets, usual = server.descriptors_at_rest(row["pid"])["socket"], before["worker"]["socket"]
        if sockets != usual:
            tally.faults.append(f"worker process {row['pid']} has {sockets} sockets, and a new one {usual}")
    totals = status["totals"]
    opened, all_opened = tally.range_of(tally.opened)
    answered, _ = tally.range_of(tally.answered)
    print(
        f"scoreboard: {totals['sessions_opened']:,} conversations and {totals['turns_answered']:,} answered turns;"
        f" callers: {all_opened:,} ({all_opened - opened:,} of them as a worker ended) and"
        f" {sum(map(len, tally.answered.values())):,} of {tally.asked:,}"
    )
    if not opened <= totals["sessions_opened"] <= all_opened + tally.dials_lost:
        tally.faults.append(f"the scoreboard has {totals['sessions_opened']} conversations, the callers {all_opened}")
    if totals["sessions_closed"] != totals["sessions_opened"]:
        tally.faults.append(f"the scoreboard has ended {totals['sessions_closed']} of {totals['sessions_opened']}")
    if not answered <= totals["turns_answered"] <= tally.asked:
        tally.faults.append(f"the scoreboard has {totals['turns_answered']} turns, the callers had {answered} answered")


def run(
    minutes: float,
    *,
    calls: int = CALLS,
    workers: int = WORKERS,
    harms: Sequence[str] = HARMS,
    agent: Path = AGENT,
    record: str = "off",
    preload: str = "",
) -> Tally:
    """Run chaos and return the callers' tally.

    Args:
        record: the level at which the server records; the conversations that were cut must then be readable.
        preload: libraries of a zygote, which imports the agent as well and is harmed, too; empty for no zygote.

    Raises:
        BenchError: it could not be run.
    """
    tally = Tally()
    folder = tempfile.TemporaryDirectory()
    options = [] if record == "off" else ["--record", record, "--record-dir", f"{folder.name}/recordings"]
    if preload:
        options += ["--preload", preload, "--preload-app"]
        harms = (*(harm for pair in zip(OF_ZYGOTES, harms, strict=False) for harm in pair), *harms[len(OF_ZYGOTES) :])
    with folder, running(workers, agent, *options) as server:
        first = server.status()["workers"][0]["pid"]
        pids = {"supervisor": server.process.pid, "worker": first}
        before = {name: server.descriptors_at_rest(pid) for name, pid in pids.items()}
        asyncio.run(hold(server, tally, calls, minutes * 60, harms))
        judge(server, tally, workers, before)
        process, log = server.process, server.log
        process.terminate()
        code = process.wait(GIVE_UP_S + 10)
        if code:
            tally.faults.append(f"the server ended with exit code {code}")
        if record != "off":
            print(check_recordings(Path(folder.name, "recordings"), tally))
        if tally.faults:
            lines = [line for line in log.read_text().splitlines() if "conversation ended" not in line]
            print("\n".join(lines[-50:]))
    return tally


def make_parser(name: str, about: str | None, minutes: float) -> argparse.ArgumentParser:
    """Make the parser of a program that harms a server for some minutes.

    Args:
        name, about: the program, and its documentation.
        minutes: the default of its time.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument("--minutes", type=float, default=minutes, help=f"default: {minutes:g}")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"conversations at once; default: {CALLS}")
    return parser


def read_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; None for those of the command line."""
    given = parser.parse_args(arguments)
    if not 0 < given.minutes <= 600 or not 1 <= given.calls <= 2000:
        parser.error("--minutes must be up to 600, --calls from 1 to 2000")
    return given


def judged(fight: Callable[[], T], line_of: Callable[[T], str]) -> int:
    """Run a fight, print what came of it, and return the exit code.

    Args:
        fight: returns the callers' tally.
        line_of: returns a tally in one line.
    """
    if sys.platform != "linux":
        print("Not run: it needs Linux, to look at processes from outside", file=sys.stderr)
        return 2
    try:
        tally = fight()
    except BenchError as error:
        print(f"Not run: {error}", file=sys.stderr)
        return 2
    print(line_of(tally))
    for fault in tally.faults[:20]:
        print(f"FAULT: {fault}")
    print("FAILED" if tally.faults else "all of it held")
    return 1 if tally.faults else 0


def _line_of(tally: Tally) -> str:
    zygotes = f"{tally.zygotes} zygotes killed or stopped; " if tally.zygotes else ""
    return (
        f"{zygotes}{len(tally.harms)} workers killed, stopped or hung, {len(tally.leaks)} leaked; {tally.cut:,}"
        f" conversations cut, {tally.dials_lost} handshakes cut with them; the slowest handshake took"
        f" {tally.slowest_s * 1000:.0f} ms"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser("bench.chaos", __doc__, 10)
    parser.add_argument(
        "--record", choices=LEVELS, default="off", help="the conversations that are cut must be readable"
    )
    parser.add_argument(
        "--preload", default="", metavar="MODULE,...", help="fork the workers from a zygote, and harm it"
    )
    given = read_arguments(parser, arguments)
    return judged(lambda: run(given.minutes, calls=given.calls, record=given.record, preload=given.preload), _line_of)


if __name__ == "__main__":
    sys.exit(main())
