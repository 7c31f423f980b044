"""The measurements, kept in one JSON file from which all tables and charts follow."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from bench.compare.scenarios import C_TURN, LINEUP
from bench.kernel import BenchError, Spread

__all__ = ["Figures", "Results", "Run"]

SCHEMA = 1
HISTORIES = {"history-10": 10, "history-100": 100, "history-1000": 1000}


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one server in one scenario of one repetition; the names of `values` contain their units."""

    target: str
    scenario: str
    repetition: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose figures were merged with those of others.

    Attributes:
        made: the day.
        commit: the measured version.
        first: the number of its first repetition.
        repetitions: their number.
        took_s: the duration in seconds.
    """

    made: str
    commit: str
    first: int
    repetitions: int
    took_s: float


@dataclass(slots=True, kw_only=True)
class Results:
    """A comparison.

    Attributes:
        made: the day, as 2026-11-28.
        machine: a description of the machine, as words.
        versions: of all participants.
        effort: repetitions, seconds, and whether the run was a quick one.
        took_s: the duration in seconds.
        figures: every single measurement.
        curves: latency to the first chunk in the open loop, by target: (share of turns, seconds), all repetitions.
        notes: omissions with their reasons, and other remarks for the reader.
        merged: the runs that these are the figures of, if there were several.
    """

    made: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    effort: Mapping[str, Any]
    took_s: float = 0.0
    figures: list[Figures] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    merged: list[Run] = field(default_factory=list)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def write(self, path: Path) -> None:
        """Write everything to a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)
        path.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file that `write` wrote.

        Raises:
            BenchError: there is no such file, or it has another format.
        """
        try:
            found = json.loads(path.read_text())
            if found.pop("schema") != SCHEMA:
                raise BenchError(f"{path} was written by another version of the benchmark")
            found["figures"] = [Figures(**figures) for figures in found["figures"]]
            found["merged"] = [Run(**run) for run in found.get("merged", ())]
            found["curves"] = {name: [(p, s) for p, s in curve] for name, curve in found["curves"].items()}
            return cls(**found)
        except OSError as error:
            raise BenchError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} holds no results of se-bench compare: {error!r}") from None

    @classmethod
    def of_runs(cls, runs: Sequence[Results]) -> Results:
        """Return the figures of several runs as one comparison; the last one describes machine and versions.

        Raises:
            BenchError: a run was a quick one, whose figures are rougher than the others'.
        """
        if len(runs) == 1:
            return runs[0]
        if len({bool(run.effort["is_quick"]) for run in runs}) > 1:
            raise BenchError("quick runs cannot be merged with others: their figures are rougher")
        last = runs[-1]
        whole = cls(made=last.made, machine=last.machine, versions=last.versions, effort=last.effort)
        for run in runs:
            first = sum(each.repetitions for each in whole.merged)
            whole.merged += [replace(each, first=each.first + first) for each in run.runs]
            whole.figures += [replace(each, repetition=each.repetition + first) for each in run.figures]
            whole.curves.update(run.curves)
            whole.notes += [note for note in run.notes if note not in whole.notes]
            whole.took_s += run.took_s
            if run.machine != last.machine:
                machine = ", ".join(run.machine.values())
                whole.notes.append(f"The run of {run.made} was on another machine or kernel: {machine}.")
        return whole

    # --- asking -----------------------------------------------------------------------------------------------------

    @property
    def targets(self) -> list[str]:
        """The servers that have figures, in the lineup's order."""
        found = {figures.target for figures in self.figures}
        return [entrant.name for entrant in LINEUP if entrant.name in found]

    @property
    def runs(self) -> list[Run]:
        """The runs, in their order."""
        repetitions = max((figures.repetition + 1 for figures in self.figures), default=1)
        return self.merged or [Run(self.made, self.versions.get("commit", ""), 0, repetitions, self.took_s)]

    def by_repetition(self, target: str, scenario: str, metric: str) -> dict[int, float]:
        """Return a figure of each repetition.

        `excess_p99_s` and `us_per_old_message` (of the scenario "history") are derived from the measurements.
        """
        if metric == "excess_p99_s":
            theirs = self.by_repetition(target, scenario, "first_p99_s")
            reference = self.by_repetition(C_TURN, scenario, "first_p99_s")
            return {number: theirs[number] - reference[number] for number in theirs.keys() & reference.keys()}
        if metric == "us_per_old_message":
            return self._slopes(target)
        return {
            figures.repetition: figures.values[metric]
            for figures in self.figures
            if (figures.target, figures.scenario) == (target, scenario) and metric in figures.values
        }

    def by_run(self, target: str, scenario: str, metric: str) -> list[float]:
        """Return a figure's median in each run that has it."""
        found = self.by_repetition(target, scenario, metric)
        return [median(values) for run in self.runs if (values := list(_of_run(run, found).values()))]

    def ratios_by_run(
        self, over: str, under: str, scenario: str, metric: str, under_scenario: str | None = None
    ) -> list[float]:
        """Return the ratio of two servers' medians in each run that has both.

        A run has none if the ratio has no meaning: a difference may be 0 or less.
        """
        above = self.by_repetition(over, scenario, metric)
        below = self.by_repetition(under, under_scenario or scenario, metric)
        pairs = [(list(_of_run(run, above).values()), list(_of_run(run, below).values())) for run in self.runs]
        return [median(ups) / median(downs) for ups, downs in pairs if ups and downs and median(downs) > 0]

    def spread(self, target: str, scenario: str, metric: str) -> Spread | None:
        """Return a figure's median over the runs, and the range of all repetitions; None if it was not measured."""
        found = self.by_repetition(target, scenario, metric)
        if not found:
            return None
        return Spread(median(self.by_run(target, scenario, metric)), min(found.values()), max(found.values()))

    def best(self, targets: Sequence[str], scenario: str, metric: str) -> str | None:
        """Return the server with the lowest median; None if none has a figure."""
        medians = {
            target: spread.median for target in targets if (spread := self.spread(target, scenario, metric)) is not None
        }
        return min(medians, key=medians.__getitem__) if medians else None

    def ratio(
        self, over: str, under: str, scenario: str, metric: str, under_scenario: str | None = None
    ) -> Spread | None:
        """Return the ratio of two servers' medians, over the runs, with the range of the ratios within repetitions.

        None if the ratio has no meaning.
        """
        runs = self.ratios_by_run(over, under, scenario, metric, under_scenario)
        above = self.by_repetition(over, scenario, metric)
        below = self.by_repetition(under, under_scenario or scenario, metric)
        pairs = [above[number] / below[number] for number in above.keys() & below.keys() if below[number] > 0]
        return Spread(median(runs), min(pairs), max(pairs)) if runs and pairs else None

    def held(self, target: str) -> list[tuple[int, float]]:
        """Return a server's memory in bytes by the number of its conversations."""
        prefix = "memory_bytes_at_"
        numbers = {
            int(metric.removeprefix(prefix))
            for figures in self.figures
            if (figures.target, figures.scenario) == (target, "connections")
            for metric in figures.values
            if metric.startswith(prefix)
        }
        return [
            (number, spread.median)
            for number in sorted(numbers)
            if (spread := self.spread(target, "connections", f"{prefix}{number}"))
        ]

    def _slopes(self, target: str) -> dict[int, float]:
        """Return the cost of one more old message in each repetition: the slope of a straight line."""
        points: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for scenario, messages in HISTORIES.items():
            for number, cost in self.by_repetition(target, scenario, "cpu_us_per_turn").items():
                points[number].append((messages, cost))
        return {
            number: linear_regression(*zip(*line, strict=True)).slope
            for number, line in points.items()
            if len(line) > 1
        }


def _of_run(run: Run, by_repetition: Mapping[int, float]) -> dict[int, float]:
    """Return the figures of a run's repetitions."""
    return {number: by_repetition[number] for number in by_repetition if 0 <= number - run.first < run.repetitions}
