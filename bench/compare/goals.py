"""The targets, and the verdict on them.

A ratio is that of the medians of a run's repetitions, and the median of these over the runs. Its range is that of the
ratios within each repetition, whose measurements lie close together in time. If a peer has several variants, the best
one in each scenario is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.compare.results import Results
from bench.compare.scenarios import (
    ALL_FEATURES,
    C_FRAME,
    C_TURN,
    JAVASCRIPT,
    LLM_AIOHTTP,
    LLM_OPENAI,
    NO_AUTHENTICATION,
    OURS,
    PACED,
    PUBLISHED,
    TLS,
    UVLOOP_TLS,
)
from bench.kernel import Spread

__all__ = ["GOALS", "Goal", "Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One target.

    Attributes:
        row, column: its place in the table.
        scenario: that of the figure; `under_scenario` is that of `under`, where it is another.
        metric: the compared figure, a name among the figures of the results.
        over, under: the servers of the ratio; without `under` the figure of `over` itself, in `unit`.
        must, aim: the limit that must be met, and the better one that is aimed at; None: no aim beyond `must`, or no
            target: the figure is only reported.
        is_of_turn: whether it stands in the table of the scenarios of turns.
    """

    row: str
    column: str
    scenario: str
    metric: str
    over: tuple[str, ...]
    under: tuple[str, ...] = ()
    under_scenario: str | None = None
    must: float | None
    aim: float | None = None
    is_of_turn: bool = False
    at_least: bool = False
    unit: str = ""
    scale: float = 1.0

    def reached(self, figure: float, wanted: float) -> bool:
        """Return whether a figure is as good as wanted."""
        return figure >= wanted if self.at_least else figure <= wanted

    @property
    def wanted(self) -> str:
        if self.must is None:
            return "no target"
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.must:g}" + (f", aim {self.aim:g}" if self.aim is not None else "")


Pair = tuple[float | None, float | None]
"""The limit that must be reached, and the one that is aimed at."""


def _ratios(
    scenario: str, row: str, published: Pair, javascript: Pair, bare_c: Pair, limit: str = C_TURN
) -> tuple[Goal, ...]:
    """Return the three targets of a scenario of turns."""
    peers = ((PUBLISHED, "published SDK / ours", published), ((JAVASCRIPT,), "JavaScript SDK / ours", javascript))
    return (
        *(
            Goal(
                row=row,
                column=column,
                scenario=scenario,
                metric="cpu_us_per_turn",
                over=peer,
                under=(OURS,),
                must=must,
                aim=aim,
                at_least=True,
                is_of_turn=True,
            )
            for peer, column, (must, aim) in peers
        ),
        Goal(
            row=row,
            column="ours / bare C",
            scenario=scenario,
            metric="cpu_us_per_turn",
            over=(OURS,),
            under=(limit,),
            must=bare_c[0],
            aim=bare_c[1],
            is_of_turn=True,
        ),
    )


def _start(row: str, metric: str, must_ms: float, aim_ms: float | None) -> Goal:
    """Return a target of a start."""
    return Goal(
        row=row,
        column="ours",
        scenario="start",
        metric=metric,
        over=(OURS,),
        must=must_ms,
        aim=aim_ms,
        unit="ms",
        scale=1e3,
    )


GOALS: tuple[Goal, ...] = (
    *_ratios("one", "1 chunk, history 4", (6, 8), (5, 7), (3.5, 2.5)),
    *_ratios("one-growing", "1 chunk, history growing to 200", (18, 25), (7, 9), (3.5, 2.5)),
    *_ratios("burst", "32 chunks burst, history 4", (32, 45), (19, 27), (4, 3)),
    *_ratios("burst-growing", "32 chunks burst, history growing to 200", (32, 45), (19, 27), (4, 3)),
    # The kernel's share decides the ratios to the SDKs.
    *_ratios("trickle", "32 chunks trickle", (None, None), (None, None), (1.3, 1.15), C_FRAME),
    Goal(
        row="32 chunks trickle, `chunk_pace_s` 0.5",
        column="published SDK / ours",
        scenario="trickle",
        metric="cpu_us_per_turn",
        over=PUBLISHED,
        under=(PACED,),
        must=10,
        aim=20,
        at_least=True,
    ),
    *(
        Goal(
            row=row,
            column="published SDK / ours",
            scenario=LLM_OPENAI,
            under_scenario=under_scenario,
            metric="us_per_token",
            over=PUBLISHED,
            under=(OURS,),
            must=must,
            aim=aim,
            at_least=True,
        )
        for row, under_scenario, must, aim in (
            ("a token through OpenAI's package", LLM_OPENAI, 2.1, 2.6),
            ("the same, ours with the documented line", LLM_AIOHTTP, 3.8, 6),
        )
    ),
    *(
        Goal(
            row=f"idle conversation after one turn, history 4{features}",
            column="ours",
            scenario="connections",
            metric="bytes_per_conversation",
            over=(target,),
            must=6.5,
            aim=5.5,
            unit="KB",
            scale=1e-3,
        )
        for features, target in (("", OURS), (", all features on", ALL_FEATURES))
    ),
    Goal(
        row="handshake, token seen before",
        column="published SDK / ours",
        scenario="connections",
        metric="handshake_us",
        over=PUBLISHED,
        under=(OURS,),
        must=2.4,
        aim=3.5,
        at_least=True,
    ),
    Goal(
        row="handshake, token seen before",
        column="ours / without authentication",
        scenario="connections",
        metric="handshake_us",
        over=(OURS,),
        under=(NO_AUTHENTICATION,),
        must=1.15,
    ),
    Goal(
        row="handshake over TLS",
        column="ours / uvloop's own TLS",
        scenario="connections",
        metric="handshake_us",
        over=(f"{OURS}{TLS}",),
        under=(UVLOOP_TLS,),
        must=1.1,
        aim=0.8,
    ),
    Goal(
        row="1 chunk, history 4, over TLS",
        column="ours / ours plain",
        scenario="one",
        metric="cpu_us_per_turn",
        over=(f"{OURS}{TLS}",),
        under=(OURS,),
        must=1.6,
        aim=1.3,
    ),
    *(
        Goal(
            row="p99 to first chunk at 400 turns/s, over bare C, all features on",
            column=f"ours / {name}",
            scenario="schedule",
            metric="excess_p99_s",
            over=(ALL_FEATURES,),
            under=peer,
            must=must,
            aim=aim,
        )
        for peer, name, must, aim in (
            (PUBLISHED, "published SDK", 0.3, 0.1),
            ((JAVASCRIPT,), "JavaScript SDK", 0.6, None),
        )
    ),
    Goal(
        row="one old message of history",
        column="ours",
        scenario="history",
        metric="us_per_old_message",
        over=(OURS,),
        must=0.1,
        aim=0.05,
        unit="us a turn",
    ),
    _start("a worker, from the death of the one before", "worker_ready_s", 350, None),
    _start("the same, its agent preloaded", "worker_preloaded_s", 350, 50),
    _start("the server, from its command to ready", "supervisor_ready_s", 500, None),
    _start("importing session and server", "import_s", 150, 80),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, its figure, and the medians of the single runs; `figure` is None if it was not measured."""

    goal: Goal
    figure: Spread | None
    runs: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if it was not measured, or is no target."""
        if self.figure is None or self.goal.must is None:
            return None
        return self.goal.reached(self.figure.median, self.goal.must)

    @property
    def aimed(self) -> bool:
        """Whether the aim is met, too."""
        wanted = self.goal.must if self.goal.aim is None else self.goal.aim
        return self.figure is not None and wanted is not None and self.goal.reached(self.figure.median, wanted)

    @property
    def word(self) -> str:
        if self.figure is None:
            return "not measured"
        if self.met is None:
            return ""
        return ("aim met" if self.aimed and self.goal.aim is not None else "met") if self.met else "MISSED"


def judge(results: Results) -> list[Verdict]:
    """Return the verdict on each target."""
    verdicts = []
    for goal in GOALS:
        below = goal.under_scenario or goal.scenario
        over = results.best(goal.over, goal.scenario, goal.metric)
        under = results.best(goal.under, below, goal.metric)
        figure: Spread | None = None
        runs: list[float] = []
        if over is not None and not goal.under:
            figure = results.spread(over, goal.scenario, goal.metric)
            runs = results.by_run(over, goal.scenario, goal.metric)
        elif over is not None and under is not None:
            figure = results.ratio(over, under, goal.scenario, goal.metric, below)
            runs = results.ratios_by_run(over, under, goal.scenario, goal.metric, below)
        scaled = figure and figure.scaled(goal.scale)
        verdicts.append(Verdict(goal, scaled, tuple(each * goal.scale for each in runs)))
    return verdicts
