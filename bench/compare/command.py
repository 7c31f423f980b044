"""The command line of `se-bench compare`; also `python -m bench.compare.command`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.compare.charts import draw
from bench.compare.live import Live
from bench.compare.machine import CHECKOUT, short_name
from bench.compare.publish import publish
from bench.compare.report import markdown, show, verdict
from bench.compare.results import Results
from bench.compare.run import FULL, QUICK, compare, seconds_needed
from bench.compare.scenarios import GROUPS, LINEUP, SCENARIOS, Entrant
from bench.kernel import BenchError, pick_cores

__all__ = ["main", "write_report"]

FILE_COLUMNS = 120
RESULTS = CHECKOUT / "bench" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and return the exit code: 0 every target met, 1 one missed, 2 nothing could be measured."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        _list()
        return 0
    try:
        lineup = _chosen_servers(given.targets)
        scenarios = _chosen_scenarios(given.only, is_quick=given.quick)
        if given.pythons:
            lineup = [entrant for entrant in LINEUP if entrant.is_python]
        if given.repetitions is not None and given.repetitions < 1:
            raise BenchError("--repetitions wants at least 1")
    except BenchError as error:
        parser.error(str(error))
    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    try:
        if given.sources is None:
            results = _measure(lineup, scenarios, given, console)
            folder = given.out or _folder(
                results, is_whole=not (given.quick or given.only or given.targets or given.pythons)
            )
            results.write(folder / "results.json")
        else:
            results = Results.of_runs([Results.read(path) for path in given.sources])
            if given.out is None and len(given.sources) > 1:
                raise BenchError("--from with several files wants --out, the folder for what they make together")
            folder = given.out or given.sources[0].parent
            if len(given.sources) > 1:
                results.write(folder / "results.json")
        write_report(results, folder)
        show(results, console)
        console.print(f"report and charts: {folder}", highlight=False, soft_wrap=True)
        if given.publish:
            for path in publish(results, CHECKOUT):
                console.print(f"written: {path.relative_to(CHECKOUT)}", highlight=False, soft_wrap=True)
    except BenchError as error:
        print(f"No comparison: {error}", file=sys.stderr)
        return 2
    return verdict(results)[0]


def write_report(results: Results, folder: Path) -> None:
    """Write the page and its charts; without matplotlib, the page alone."""
    try:
        charts = draw(results, folder)
    except BenchError as error:
        print(f"No charts: {error}", file=sys.stderr)
        charts = {}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(results, charts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se-bench compare",
        description="Measure what a turn costs se-server, everything a user could pick instead, and the bare machine,"
        " in one run. Exit codes: 0 every target met, 1 one missed, 2 nothing could be measured.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer servers and short runs, under five minutes; rough")
    parser.add_argument(
        "--only", nargs="+", metavar="SCENARIO", help="these scenarios, or groups of them; --list shows both"
    )
    parser.add_argument(
        "--targets", nargs="+", metavar="NAME", help="servers of these names, or with these in their names"
    )
    parser.add_argument(
        "--pythons", action="store_true", help="se-server alone, on each Python that is installed; they are built once"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help="default: 5, with --quick 3")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for results, report and charts")
    parser.add_argument(
        "--from",
        dest="sources",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing: report and draw these results; those of several runs are merged, and the last describes"
        " the machine",
    )
    parser.add_argument("--publish", action="store_true", help="update README and docs with the figures of a full run")
    parser.add_argument("--list", action="store_true", help="show scenarios and servers, and measure nothing")
    return parser


def _chosen_scenarios(names: Sequence[str] | None, *, is_quick: bool) -> list[str]:
    wrong = [name for name in names or () if name not in SCENARIOS and name not in GROUPS]
    if wrong:
        raise BenchError(f"there is no scenario {wrong[0]!r}; there are: {', '.join(SCENARIOS)}")
    if names:
        chosen = {found for name in names for found in GROUPS.get(name, (name,))}
        return [name for name in SCENARIOS if name in chosen]
    return [name for name, scenario in SCENARIOS.items() if scenario.in_quick or not is_quick]


def _chosen_servers(names: Sequence[str] | None) -> list[Entrant] | None:
    """Return the servers of these names, or with these in their names; None if none are asked for."""
    if names is None:
        return None
    chosen: set[str] = set()
    for name in names:
        found = [entrant.name for entrant in LINEUP if name.lower() in entrant.name.lower()]
        if not found:
            raise BenchError(f"no server's name contains {name!r}; --list shows them")
        chosen |= {name} if name in found else set(found)
    return [entrant for entrant in LINEUP if entrant.name in chosen]


def _measure(
    chosen: list[Entrant] | None, scenarios: list[str], given: argparse.Namespace, console: Console
) -> Results:
    cores = pick_cores()
    lineup = chosen or [
        entrant for entrant in LINEUP if not entrant.is_python and (entrant.in_quick or not given.quick)
    ]
    effort = QUICK if given.quick else FULL
    if given.repetitions is not None:
        effort = dataclasses.replace(effort, repetitions=given.repetitions)
    with Live(console, seconds_needed(lineup, scenarios, effort)) as live:
        return compare(lineup, scenarios, effort, cores, live)


def _folder(results: Results, *, is_whole: bool) -> Path:
    name = f"{results.made}-{short_name(results.machine)}"
    return RESULTS / name if is_whole else RESULTS / "scratch" / f"{name}-{time.strftime('%H%M%S')}"


def _list() -> None:
    print("scenarios with their groups, and whether --quick has them:")
    for scenario in SCENARIOS.values():
        quick = "quick" if scenario.in_quick else ""
        print(f"  {scenario.name:<20} {scenario.group:<12} {quick:<6} {scenario.title}")
    print("servers, and what they go through:")
    for entrant in LINEUP:
        through = "all" if len(entrant.scenarios) == len(SCENARIOS) else " ".join(entrant.scenarios)
        print(f"  {entrant.name:<34} {'quick' if entrant.in_quick else '':<6} {through}")


if __name__ == "__main__":
    sys.exit(main())
