"""Metrics under fire: workers and observers are killed, the server is reloaded and upgraded, and the sums hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.functional.observing import PAGE_LINE, Admin, Samples, observed_server
from tests.functional.preloading import until
from tests.functional.processes import needs_proc, write_agent
from tests.helpers import START_TIMEOUT_S, connect, read_answer, stopped_at_the_end, transcript_message

pytestmark = needs_proc

CALLERS = 12

AGENT = """
    import asyncio, random
    async def words():
        for _ in range(4):
            yield "word "
            await asyncio.sleep(0.005)
    async def on_transcript(transcript, session):
        await session.send_response(words())
"""


@dataclass
class Counted:
    """The figures of the callers' side: `sure` ones were seen whole, `cut` ones a death may have hidden."""

    opened: int = 0
    answered: int = 0
    cut: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


async def call_again_and_again(url: str, counted: Counted) -> None:
    """Hold one conversation after another until told to stop."""
    while not counted.stop.is_set():
        try:
            async with connect(url) as caller:
                counted.opened += 1
                for event_id in range(1, 6):
                    if counted.stop.is_set():
                        break
                    await caller.send(transcript_message("hello", event_id=event_id))
                    await read_answer(caller)
                    counted.answered += 1
        except ConnectionClosed:
            counted.cut += 1
        except (InvalidHandshake, OSError, EOFError):
            await asyncio.sleep(0.01)  # the worker died with the connection in its hands


def fallen(before: Samples, after: Samples) -> list[str]:
    """Return the counters that went back within one start time."""
    start = ("start_time_seconds", frozenset[tuple[str, str]]())
    if before[start] != after[start]:
        return []
    counted = ("_total", "_count", "_sum", "_bucket")
    # The sum of a histogram and its buckets are read one after the other: only a fall is a fault.
    return [key[0] for key, value in before.items() if key[0].endswith(counted) and after.get(key, 0) < value]


async def scrape(admin: Admin, counted: Counted, found: list[str], scrapes: list[Samples]) -> None:
    """Scrape ten times a second, and collect the counters that fall."""
    while not counted.stop.is_set():
        with contextlib.suppress(OSError, HTTPException):  # the observer was killed while it answered
            samples = await asyncio.to_thread(admin.samples)
            if scrapes:
                found += fallen(scrapes[-1], samples)
            scrapes.append(samples)
        await asyncio.sleep(0.1)


async def test_no_counter_falls_and_the_sums_are_the_callers(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=2) as admin:
        counted, found, scrapes = Counted(), list[str](), list[Samples]()
        callers = [asyncio.create_task(call_again_and_again(admin.server.url, counted)) for _ in range(CALLERS)]
        scraper = asyncio.create_task(scrape(admin, counted, found, scrapes))
        for deed in range(4):
            await asyncio.sleep(0.5)
            os.kill(admin.pid(), signal.SIGKILL)
            again = f"(?s)(?:the observer was killed.*){{{deed + 1}}}INFO .*page for operators"
            await asyncio.to_thread(admin.server.wait_for_output, again, START_TIMEOUT_S)
            workers = [row["pid"] for row in admin.overview()["workers"] if row["state"] == "ready"]
            if deed % 2:
                os.kill(workers[0], signal.SIGKILL)
            else:
                admin.server.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.5)
        counted.stop.set()
        await asyncio.gather(*callers, scraper)
        assert found == []
        assert len(scrapes) > 5
        assert counted.answered > 100
        await asyncio.to_thread(admin.wait_for_value, 0, "conversations", state="listening")
        after = admin.samples()
        turns = {dict(labels)["outcome"]: value for (name, labels), value in after.items() if name == "turns_total"}
        # A turn that the caller heard to its end counts as answered, unless its worker died before it was counted.
        assert turns["answered"] <= counted.answered + counted.cut
        assert sum(turns.values()) >= counted.answered
        assert counted.answered - turns["answered"] <= counted.cut
        closed = sum(value for (name, _), value in after.items() if name == "conversations_closed_total")
        assert admin.value("conversations_total") == closed
        # A conversation of a worker that died during the handshake is one to the worker and none to the caller.
        assert 0 <= closed - counted.opened <= CALLERS * 2
        assert after["turn_duration_seconds_count", frozenset()] <= sum(turns.values())


async def test_an_upgrade_counts_from_zero_and_says_so(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with observed_server(app=app, workers=1) as admin:
        counted, found, scrapes = Counted(), list[str](), list[Samples]()
        callers = [asyncio.create_task(call_again_and_again(admin.server.url, counted)) for _ in range(4)]
        scraper = asyncio.create_task(scrape(admin, counted, found, scrapes))
        await until(lambda: len(scrapes) > 2)
        admin.server.send_signal(signal.SIGUSR2)
        said = await asyncio.to_thread(
            admin.server.wait_for_output, r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S
        )
        with stopped_at_the_end(int(said[1])):
            await asyncio.to_thread(
                admin.server.wait_for_output, rf"(?s)(?:{PAGE_LINE.pattern}.*){{2}}", START_TIMEOUT_S
            )
            seen = len(scrapes)
            await until(lambda: len(scrapes) > seen + 2)
            counted.stop.set()
            await asyncio.gather(*callers, scraper)
            starts = [samples["start_time_seconds", frozenset()] for samples in scrapes]
            assert found == []
            assert counted.cut == 0
            assert starts == sorted(starts)
            assert len(set(starts)) == 2
