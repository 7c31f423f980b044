"""Metrics under fire: scrapes every second while workers and the observer are killed and the server is upgraded.

`python -m bench.observed [--minutes M]`. No counter goes back within one start time; in every scrape the totals lie
between what the callers had seen before it and what they could have caused until its end; in the last one they are the
callers' own; and no caller notices that an observer died. Exit code 0: all of it held; 1: something did not; 2: it
could not be run.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bench.chaos import (
    HANG_TIMEOUT_S,
    HARMS,
    WORKERS,
    ServerOfChaos,
    harm,
    judged,
    make_parser,
    read_arguments,
    running,
)
from bench.chaos_callers import GIVE_UP_S, Call, Tally
from bench.kernel import BenchError

AGENT = Path(__file__).with_name("observed_agent.py")
CALLS = 200
KILLS = 10
SCRAPE_S = 1.0
LATE_S = 3.0
"""A worker that is stopped or hung notices the end of a conversation no later than it is killed."""
PAGE = re.compile(r"\[(\d+)\] se_server\.server\.observer: the page for operators is at (http://[^\s,]+)")
BEGUN = re.compile(r"upgrade: supervisor (\d+) starts")
SERVES = re.compile(r"upgrade: supervisor \d+ serves")
ACCEPT = {"Accept": "application/openmetrics-text; version=1.0.0"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Seen:
    """The callers' counts of one supervisor: conversations, answered turns, and texts."""

    opened: int = 0
    answered: int = 0
    texts: int = 0


@dataclass
class Count(Tally):
    """The callers' tally, by supervisor.

    Attributes:
        seen: the counts by the process id of the supervisor.
        open: open conversations whose supervisor is known.
        doubtful: turns that were asked and not answered, because their conversation was cut.
        nameless: conversations that were cut before an answer named their supervisor.
        ends: when conversations ended.
        slowest_answer_s: the longest time to a whole answer on a worker that was not harmed.
        scrapes, failed: scrapes, and those that a dying observer did not answer.
    """

    seen: dict[int, Seen] = field(default_factory=dict)
    open: int = 0
    pending: int = 0
    dialing: int = 0
    doubtful: int = 0
    nameless: int = 0
    ends: list[float] = field(default_factory=list)
    slowest_answer_s: float = 0.0
    scrapes: int = 0
    failed: int = 0
    took_s: list[float] = field(default_factory=list)

    def of(self, supervisor: int) -> Seen:
        """Return the counts of a supervisor."""
        return self.seen.setdefault(supervisor, Seen())


class ObservedCall(Call):
    """One conversation after the other, counted by the supervisor of its worker."""

    _tally: Count
    _supervisor = 0
    _texts = 0

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._tally.dialing += 1
        try:
            return await super()._dial()
        finally:
            self._tally.dialing -= 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float) -> None:
        tally = self._tally
        self._supervisor = 0
        tally.open += 1
        try:
            await super()._converse(reader, writer, until)
        finally:
            tally.open -= 1
            tally.ends.append(time.monotonic())
            tally.nameless += not self._supervisor

    async def _hear(self, reader: asyncio.StreamReader, event_id: int) -> None:
        tally, asked_at = self._tally, time.monotonic()
        tally.pending += 1
        self._texts = 0
        try:
            await super()._hear(reader, event_id)
        except BaseException:
            tally.doubtful += 1
            raise
        finally:
            tally.pending -= 1
        seen = tally.of(self._supervisor)
        seen.answered += 1
        seen.texts += self._texts
        if not tally.was_harmed(asked_at - LATE_S):
            tally.slowest_answer_s = max(tally.slowest_answer_s, time.monotonic() - asked_at)

    def _take_text(self, text: str) -> None:
        self._texts += 1
        pid, supervisor = map(int, text.split())
        if not self._supervisor:
            self._tally.of(supervisor).opened += 1
        self.pid, self._supervisor = pid, supervisor


# --- the scrapes ---


class Scraper:
    """Scrapes, and compares each scrape with the one before and with the callers.

    Args:
        server: the server; its log names the address of the observer.
        count: the callers' tally, which also takes the faults.
    """

    def __init__(self, server: ServerOfChaos, count: Count) -> None:
        self._server = server
        self._count = count
        self._last: Samples = {}
        self.supervisor = server.process.pid

    async def wait(self) -> None:
        """Wait for the first observer."""
        deadline = time.monotonic() + 60
        while not PAGE.search(self._server.log.read_text()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a file has no event

    def observer(self) -> tuple[int, str]:
        """Return process id and address of the newest observer."""
        found = PAGE.findall(self._server.log.read_text())
        if not found:
            raise BenchError(f"there is no observer:\n{self._server.log.read_text()}")
        return int(found[-1][0]), found[-1][1]

    async def run(self, until: float) -> None:
        """Scrape every second."""
        while time.monotonic() < until:
            began = time.monotonic()
            await self.scrape()
            await asyncio.sleep(max(0.0, began + SCRAPE_S - time.monotonic()))

    async def scrape(self) -> Samples | None:
        """Scrape once; None if the observer died meanwhile."""
        count, began = self._count, time.monotonic()
        before = {pid: (seen.opened, seen.answered) for pid, seen in count.seen.items()}
        open_before = count.open
        try:
            text = await asyncio.to_thread(_get, self.observer()[1] + "metrics")
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                count.faults.append(f"a scrape was answered {error}")
            count.failed += 1
            return None
        count.scrapes += 1
        count.took_s.append(time.monotonic() - began)
        samples = _read(text)
        start = samples[_key("start_time_seconds")]
        if self._last and start != self._last[_key("start_time_seconds")]:
            self._last = {}
            self.supervisor = int(BEGUN.findall(self._server.log.read_text())[-1])
        for key, value in self._last.items():
            if key[0].endswith(("_total", "_count", "_sum", "_bucket")) and samples.get(key, 0) < value:
                count.faults.append(f"{key[0]}{dict(key[1])} went back from {value} to {samples.get(key)}")
        self._last = samples
        seen = count.of(self.supervisor)
        opened, answered = before.get(self.supervisor, (0, 0))
        doubts = count.pending + count.doubtful
        self._within("turns_total", _sum(samples, "turns_total", "answered"), answered, seen.answered + doubts)
        unknown = count.dialing + count.open + count.nameless + count.dials_lost
        self._within("conversations_total", _sum(samples, "conversations_total"), opened, seen.opened + unknown)
        if not count.was_harmed(began - LATE_S):  # else the server may know the end of conversations, or the callers
            ended = sum(at > began - LATE_S for at in count.ends)
            self._within(
                "conversations", _sum(samples, "conversations"), open_before - ended, open_before + unknown + ended
            )
        return samples

    def _within(self, name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            self._count.faults.append(f"{name} was {value:g} where the callers had at least {least} and at most {most}")


def _get(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=ACCEPT), timeout=GIVE_UP_S) as answer:
        text: str = answer.read().decode()
        return text


def _read(text: str) -> Samples:
    return {
        (sample.name.removeprefix("se_server_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


def _key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def _sum(samples: Samples, name: str, outcome: str = "") -> float:
    """Add up the samples of a name, or those with one outcome."""
    return sum(
        value
        for (found, labels), value in samples.items()
        if found == name and (not outcome or ("outcome", outcome) in labels)
    )


# --- the run ---


async def kill_observers(scraper: Scraper, kills: int, seconds: float) -> int:
    """Kill the observer at equal intervals, and return how often."""
    killed = set[int]()
    for _ in range(kills):
        await asyncio.sleep(seconds / (kills + 1))
        pid = scraper.observer()[0]
        if pid not in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    return len(killed)


async def upgrade(server: ServerOfChaos, after_s: float) -> None:
    """Upgrade the server, and wait until the other supervisor serves."""
    await asyncio.sleep(after_s)
    os.kill(server.process.pid, signal.SIGUSR2)
    deadline = time.monotonic() + 60
    while not SERVES.search(server.log.read_text()):
        if time.monotonic() > deadline:
            raise BenchError("the upgrade did not end")
        await asyncio.sleep(0.1)


async def fight(
    server: ServerOfChaos, count: Count, calls: int, seconds: float, harms: Sequence[str], kills: int
) -> tuple[Samples, int, Scraper]:
    """Hold the conversations, harm workers and observers, upgrade; return the last scrape and the kills."""
    scraper = Scraper(server, count)
    await scraper.wait()
    until = time.monotonic() + seconds
    callers = [ObservedCall(server.port, count, number) for number in range(calls)]
    stops = until - 2 * HANG_TIMEOUT_S
    work = [caller.run(until) for caller in callers]
    tasks = [asyncio.create_task(task) for task in [*work, scraper.run(until), upgrade(server, seconds / 2)]]
    if harms:
        tasks.append(asyncio.create_task(harm(server, callers, count, stops, harms)))
    killed = await kill_observers(scraper, kills, seconds)
    await asyncio.gather(*tasks)
    deadline = time.monotonic() + GIVE_UP_S + LATE_S
    while True:
        samples = await scraper.scrape()
        if samples is not None and not _sum(samples, "conversations"):
            return samples, killed, scraper
        if time.monotonic() > deadline:
            raise BenchError("conversations remain open after the callers have gone")
        await asyncio.sleep(0.2)


def judge(samples: Samples, count: Count, supervisor: int) -> None:
    """Compare the last scrape with the callers, and add to the faults."""
    seen = count.of(supervisor)
    conversations, texts = _sum(samples, "conversations_total"), _sum(samples, "texts_total")
    answered, ended = _sum(samples, "turns_total", "answered"), _sum(samples, "turns_total")
    closed = _sum(samples, "conversations_closed_total")
    print(
        f"metrics since the upgrade: {conversations:,.0f} conversations, {answered:,.0f} answered turns,"
        f" {texts:,.0f} texts; callers: {seen.opened:,}, {seen.answered:,}, {seen.texts:,};"
        f" of both supervisors {count.doubtful} turns and {count.nameless} conversations were cut before the"
        " callers knew their end"
    )
    lost = count.nameless + count.dials_lost
    for name, value, least, most in (
        ("conversations_total", conversations, seen.opened, seen.opened + lost),
        ("turns_total{outcome=answered}", answered, seen.answered, seen.answered + count.doubtful),
        ("turns_total", ended, seen.answered, seen.answered + count.doubtful),
        ("texts_total", texts, seen.texts, seen.texts + 2 * count.doubtful),
        ("conversations_closed_total", closed, conversations, conversations),
    ):
        if not least <= value <= most:
            count.faults.append(f"in the end {name} is {value:g}; the callers had {least} to {most}")


def run(
    minutes: float, *, calls: int = CALLS, workers: int = WORKERS, harms: Sequence[str] = HARMS, kills: int = KILLS
) -> Count:
    """Run the fight and return the callers' tally.

    Raises:
        BenchError: it could not be run.
    """
    count = Count()
    with running(workers, AGENT, "--admin", "127.0.0.1:0") as server:
        samples, killed, scraper = asyncio.run(fight(server, count, calls, minutes * 60, harms, kills))
        judge(samples, count, scraper.supervisor)
        if killed < kills:
            count.faults.append(f"only {killed} of {kills} observers could be killed")
        if len(count.seen) != 2:
            count.faults.append(f"the callers met {len(count.seen)} supervisors instead of two")
        if count.faults:
            lines = [line for line in server.log.read_text().splitlines() if "conversation ended" not in line]
            print("\n".join(lines[-50:]))
    return count


def _line_of(count: Count) -> str:
    return (
        f"{count.scrapes} scrapes, {statistics.median(count.took_s) * 1000:.0f} ms each, {count.failed} cut by the"
        f" death of an observer; {len(count.harms)} workers killed, stopped or hung, {len(count.leaks)} leaked;"
        f" {count.cut} conversations cut; the slowest handshake took {count.slowest_s * 1000:.0f} ms, the slowest"
        f" answer {count.slowest_answer_s * 1000:.0f} ms"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser("bench.observed", __doc__, 2)
    parser.add_argument("--spare-workers", action="store_true", help="harm the observer alone: all totals are exact")
    given = read_arguments(parser, arguments)
    harms = () if given.spare_workers else HARMS
    return judged(lambda: run(given.minutes, calls=given.calls, harms=harms), _line_of)


if __name__ == "__main__":
    sys.exit(main())
