"""The cases of se-doctor: their type, their registry, and running them concurrently."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from se_server.address import shown
from se_server.doctor.readings import Reading
from se_server.doctor.results import CaseFailed, NotTested, Result, State, Warned
from se_server.doctor.target import Target
from se_server.errors import CallerError

CASE_TIMEOUT_S = 60.0
_HEARD_CHARS = 500

Run = Callable[[Target], Awaitable[tuple[str, str]]]
"""Examines a target and returns the words heard and a sentence; raises `CaseFailed`, `NotTested`, `Warned` or
`CallerError`.
"""


@dataclass(frozen=True)
class Case:
    """One behaviour that a good server shows.

    Attributes:
        name: the name, one word.
        group: the heading on the scorecard.
        title: the behaviour of a good server, as half a sentence.
        turns: the largest number of questions that the agent answers in this case.
        run: examines a target.
        needs_reference: whether only the reference agent can show the behaviour.
        readings: the readings of the API that may decide the case; each is a further run.
    """

    name: str
    group: str
    title: str
    turns: int
    run: Run
    needs_reference: bool = False
    readings: tuple[Reading, ...] = ()


CASES: dict[str, Case] = {}
"""All cases by name, in the order of the scorecard."""


def case(
    name: str,
    group: str,
    title: str,
    *,
    turns: int,
    needs_reference: bool = False,
    readings: tuple[Reading, ...] = (),
) -> Callable[[Run], Run]:
    """Add the decorated function to `CASES`; `turns` is the number for one run."""

    def add(run: Run) -> Run:
        assert name not in CASES
        CASES[name] = Case(name, group, title, turns * (1 + len(readings)), run, needs_reference, readings)
        return run

    return add


async def examine(target: Target, examined: Case) -> Result:
    """Run one case. Every outcome, errors included, becomes its result.

    A case that the readings of the API may decide runs once for each of them, unless the target has a reading already.
    """
    if target.reading is not None or not examined.readings:
        result = await _examine_once(target, examined)
        return _under(target.reading, result) if target.reading in examined.readings else result
    plain, *others = await asyncio.gather(
        *(
            _examine_once(dataclasses.replace(target, reading=reading), examined)
            for reading in (None, *examined.readings)
        )
    )
    if plain.state not in (State.PASS, State.WARNING):
        return plain
    found = [_under(reading, result) for reading, result in zip(examined.readings, others, strict=True)]
    return next((result for result in found if result.state is State.FAIL), None) or next(
        (result for result in found if result.state is not State.PASS), plain
    )


def _under(reading: Reading | None, result: Result) -> Result:
    """Return a result of one reading, which it names if the case did not pass."""
    if reading is None or result.state in (State.PASS, State.NOT_TESTED):
        return result
    if result.state is State.FAIL and reading.way_out:
        result = dataclasses.replace(result, state=State.WARNING, why=f"{result.why}; {reading.way_out}")
    return dataclasses.replace(result, why=f"if {reading.condition}: {result.why}", reading=reading.name)


async def _examine_once(target: Target, examined: Case) -> Result:
    began = time.monotonic()
    heard = why = ""
    try:
        if examined.needs_reference and not target.words.does_on_request:
            raise NotTested("only the reference agent does this on request: --agent reference")
        timeout_s = CASE_TIMEOUT_S + target.quiet_s + target.reply_timeout_s
        heard, why = await asyncio.wait_for(examined.run(target), timeout_s)
        state = State.PASS
    except NotTested as reason:
        state, why = State.NOT_TESTED, str(reason)
    except Warned as reason:
        state, why = State.WARNING, str(reason)
    except CaseFailed as failure:
        state, why, heard = State.FAIL, str(failure), failure.heard
    except CallerError as error:
        state, why = State.FAIL, str(error).removeprefix(f"{shown(target.url)}: ")
    except asyncio.TimeoutError:
        # Silence has a shorter timeout of its own; this one ends answers that are very long.
        state, why = State.NOT_TESTED, f"no decision within {timeout_s:.0f} s"
    took_s = time.monotonic() - began
    return Result(examined.name, examined.group, examined.title, state, heard[:_HEARD_CHARS], why, took_s)


async def examine_all(
    target: Target, cases: Sequence[Case], *, at_once: int, on_start: Callable[[Case], None] | None = None
) -> AsyncIterator[Result]:
    """Run cases concurrently and yield their results in the order of the cases.

    Args:
        target: the server.
        cases: the cases to run.
        at_once: the largest number of concurrent conversations.
        on_start: called with each case as it begins.
    """
    free = asyncio.Semaphore(at_once)

    async def one(examined: Case) -> Result:
        async with free:
            if on_start is not None:
                on_start(examined)
            return await examine(target, examined)

    # Start the long cases first: they determine the total time.
    order = sorted(cases, key=lambda examined: examined.name not in ("quiet", "tool-long", "hostile"))
    tasks = {examined.name: asyncio.ensure_future(one(examined)) for examined in order}
    try:
        for examined in cases:
            yield await tasks[examined.name]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
