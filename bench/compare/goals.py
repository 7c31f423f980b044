"""The targets, and the verdict on them.

A ratio is that of the medians over the repetitions; its range is that of the ratios within each repetition, whose runs
lie close together in time. If a peer has several variants, the best one in each scenario is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.compare.results import Results
from bench.compare.scenarios import C_FRAME, C_TURN, JAVASCRIPT, NO_AUTHENTICATION, OURS, PUBLISHED
from bench.kernel import Spread

__all__ = ["GOALS", "Goal", "Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One target.

    Attributes:
        row, column: its place in the table.
        metric: the compared figure, a name among the figures of the results.
        over, under: the servers of the ratio; without `under` the figure of `over` itself, in `unit`.
        must, aim: the limit that must be met, and the better one that is aimed at; None: no aim beyond `must`.
    """

    row: str
    column: str
    scenario: str
    metric: str
    over: tuple[str, ...]
    under: tuple[str, ...] = ()
    must: float
    aim: float | None = None
    at_least: bool = False
    unit: str = ""
    scale: float = 1.0

    def reached(self, figure: float, wanted: float) -> bool:
        """Return whether a figure is as good as wanted."""
        return figure >= wanted if self.at_least else figure <= wanted

    @property
    def wanted(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.must:g}" + (f", aim {self.aim:g}" if self.aim is not None else "")


def _ratios(
    scenario: str,
    row: str,
    published: tuple[float, float],
    javascript: tuple[float, float],
    bare_c: tuple[float, float],
    limit: str = C_TURN,
) -> tuple[Goal, ...]:
    """Return the three targets of a scenario of turns; each pair is the limit and the aim."""
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
        ),
    )


GOALS: tuple[Goal, ...] = (
    *_ratios("one", "1 chunk, history 4", (6, 8), (5, 7), (3.5, 2.5)),
    *_ratios("one-growing", "1 chunk, history growing to 200", (18, 25), (7, 9), (3.5, 2.5)),
    *_ratios("burst", "32 chunks burst, history 4", (32, 45), (19, 27), (4, 3)),
    *_ratios("burst-growing", "32 chunks burst, history growing to 200", (32, 45), (19, 27), (4, 3)),
    *_ratios("trickle", "32 chunks trickle", (4.5, 5.7), (2.2, 2.8), (2.1, 1.6), C_FRAME),
    Goal(
        row="idle conversation after one turn, history 4",
        column="ours",
        scenario="connections",
        metric="bytes_per_conversation",
        over=(OURS,),
        must=9.0,
        aim=6.0,
        unit="KB",
        scale=1e-3,
    ),
    Goal(
        row="handshake, token seen before",
        column="published SDK / ours",
        scenario="connections",
        metric="handshake_us",
        over=PUBLISHED,
        under=(OURS,),
        must=2.2,
        aim=3.0,
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
    *(
        Goal(
            row="p99 to first chunk at 400 turns/s, over bare C",
            column=f"ours / {name}",
            scenario="schedule",
            metric="excess_p99_s",
            over=(OURS,),
            under=peer,
            must=must,
        )
        for peer, name, must in ((PUBLISHED, "published SDK", 0.35), ((JAVASCRIPT,), "JavaScript SDK", 0.6))
    ),
    Goal(
        row="one old message of history",
        column="ours",
        scenario="history",
        metric="us_per_old_message",
        over=(OURS,),
        must=0.1,
        unit="us a turn",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and its figure; `figure` is None if it was not measured."""

    goal: Goal
    figure: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if it was not measured."""
        return None if self.figure is None else self.goal.reached(self.figure.median, self.goal.must)

    @property
    def aimed(self) -> bool:
        """Whether the aim is met, too."""
        wanted = self.goal.must if self.goal.aim is None else self.goal.aim
        return self.figure is not None and self.goal.reached(self.figure.median, wanted)

    @property
    def word(self) -> str:
        if self.met is None:
            return "not measured"
        return ("aim met" if self.aimed and self.goal.aim is not None else "met") if self.met else "MISSED"


def judge(results: Results) -> list[Verdict]:
    """Return the verdict on each target."""
    verdicts = []
    for goal in GOALS:
        over = results.best(goal.over, goal.scenario, goal.metric)
        under = results.best(goal.under, goal.scenario, goal.metric)
        figure: Spread | None = None
        if over is not None and not goal.under:
            found = results.spread(over, goal.scenario, goal.metric)
            figure = found and found.scaled(goal.scale)
        elif over is not None and under is not None:
            figure = results.ratio(over, under, goal.scenario, goal.metric)
        verdicts.append(Verdict(goal, figure))
    return verdicts
