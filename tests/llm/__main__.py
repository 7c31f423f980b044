"""`python -m tests.llm`: speak all rows whose packages are installed, and print the verdicts; or write the table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.llm.page import write_page
from tests.llm.rows import Row, all_rows
from tests.llm.stage import (
    CLOSE_S,
    WAITING_FOR_ANSWER,
    WAITING_FOR_EVENT,
    WAITING_FOR_SOCKET,
    Heard,
    Interruption,
    interrupt,
    speak,
)
from tests.providers import Provider, provider_in_thread

T = TypeVar("T")

ROW_S = 30
INDENT = " " * 12
WAITS = ((WAITING_FOR_EVENT, True), (WAITING_FOR_SOCKET, False))
WAITS_FOR_ANSWER = ((WAITING_FOR_ANSWER, True),)


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.llm", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "page"), default="run")
    parser.add_argument("-k", dest="words", default="", help="only the rows whose name has these words")
    parser.add_argument("--closing", action="store_true", help="interrupt each stream, too")
    parser.add_argument("-v", dest="verbose", action="store_true", help="print the rows that are right, too")
    options = parser.parse_args()
    if options.command == "page":
        print(f"wrote {write_page()}")
        return 0
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.CRITICAL)
    signal.signal(signal.SIGALRM, _hangs)
    rows = [row for row in all_rows() if options.words in row.name]
    with provider_in_thread() as provider:
        counts = Counter(_run(row, provider, closing=options.closing, verbose=options.verbose) for row in rows)
    print(", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items())))
    return 1 if counts["wrong"] or counts["silent"] or counts["not closed"] else 0


class RowHangs(BaseException):
    """A row took longer than `ROW_S`, perhaps in a loop that awaits nothing."""


def _hangs(*_: object) -> None:
    raise RowHangs


def _limited(coroutine: Coroutine[Any, Any, T]) -> T | BaseException:
    """Run a coroutine for at most `ROW_S`; return its result, or what it raised."""
    signal.setitimer(signal.ITIMER_REAL, ROW_S, 1)
    try:
        return asyncio.run(coroutine)
    except (Exception, RowHangs) as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _run(row: Row, provider: Provider, *, closing: bool, verbose: bool) -> str:
    if not row.is_installed:
        return "skipped"
    heard = _limited(speak(row, provider))
    verdict = heard.verdict(row) if isinstance(heard, Heard) else "wrong"
    if verbose or verdict in ("wrong", "silent"):
        print(f"{verdict:10}  {row.name}\n{INDENT}{heard!r}")
    if closing and row.api and row.closed_by and verdict == "right":
        for script, reads in WAITS if row.is_stream else WAITS_FOR_ANSWER:
            done = _limited(interrupt(row, provider, script, reads=reads))
            is_closed = isinstance(done, Interruption) and done.closed_s is not None and done.closed_s < CLOSE_S
            if verbose or not is_closed or done.logged or done.errors:  # type: ignore[union-attr]
                caption = "reads" if reads else "does not read"
                print(f"{'closed' if is_closed else 'NOT CLOSED'}  {row.name}, caller {caption}\n{INDENT}{done!r}")
            if not is_closed:
                verdict = "not closed"
    return verdict


if __name__ == "__main__":
    sys.exit(main())
