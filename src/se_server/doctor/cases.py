"""What a case is, the list of them all, and how they are run side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from se_server.doctor.results import CaseFailed, NotTested, Result, State, Warned
from se_server.doctor.target import Patient
from se_server.errors import CallerError

CASE_TIMEOUT_S = 60.0
_HEARD_CHARS = 500

Run = Callable[[Patient], Awaitable[tuple[str, str]]]
"""Examines a patient: what was heard, and a sentence; raises `CaseFailed`, `NotTested`, `Warned` or `CallerError`."""


@dataclass(frozen=True)
class Case:
    """One thing that a good server bears.

    Attributes:
        name: in one word.
        group: what it belongs to.
        title: what a good server does, in half a sentence.
        turns: how many questions the agent answers for it, at most.
        run: examines a patient.
        needs_reference: whether only the reference agent gives occasion to it.
    """

    name: str
    group: str
    title: str
    turns: int
    run: Run
    needs_reference: bool = False


CASES: dict[str, Case] = {}
"""All cases by name, in the order of the scorecard."""


def case(name: str, group: str, title: str, *, turns: int, needs_reference: bool = False) -> Callable[[Run], Run]:
    """Add the decorated function to `CASES`."""

    def add(run: Run) -> Run:
        assert name not in CASES
        CASES[name] = Case(name, group, title, turns, run, needs_reference)
        return run

    return add


async def examine(patient: Patient, examined: Case) -> Result:
    """Run one case; whatever happens in it becomes its result."""
    began = time.monotonic()
    heard = why = ""
    try:
        if examined.needs_reference and not patient.words.does_on_request:
            raise NotTested("only the reference agent does this on request: --agent reference")
        timeout_s = CASE_TIMEOUT_S + patient.quiet_s + patient.reply_timeout_s
        heard, why = await asyncio.wait_for(examined.run(patient), timeout_s)
        state = State.PASS
    except NotTested as reason:
        state, why = State.NOT_TESTED, str(reason)
    except Warned as reason:
        state, why = State.WARNING, str(reason)
    except CaseFailed as failure:
        state, why, heard = State.FAIL, str(failure), failure.heard
    except CallerError as error:
        state, why = State.FAIL, str(error).removeprefix(f"{patient.url}: ")
    except asyncio.TimeoutError:
        # Silence has a shorter timeout of its own: this one meets agents that talk for very long.
        state, why = State.NOT_TESTED, f"nothing was decided within {timeout_s:.0f} s"
    took_s = time.monotonic() - began
    return Result(examined.name, examined.group, examined.title, state, heard[:_HEARD_CHARS], why, took_s)


async def examine_all(
    patient: Patient, cases: Sequence[Case], *, at_once: int, on_start: Callable[[Case], None] | None = None
) -> AsyncIterator[Result]:
    """Run cases side by side and give their results in the order of the cases.

    Args:
        patient: the server.
        cases: what to run.
        at_once: how many conversations may be held at the same time.
        on_start: called with each case as it begins.
    """
    free = asyncio.Semaphore(at_once)

    async def one(examined: Case) -> Result:
        async with free:
            if on_start is not None:
                on_start(examined)
            return await examine(patient, examined)

    # The long ones first: they decide how long it all takes.
    order = sorted(cases, key=lambda examined: examined.name not in ("quiet", "hostile"))
    tasks = {examined.name: asyncio.ensure_future(one(examined)) for examined in order}
    try:
        for examined in cases:
            yield await tasks[examined.name]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
