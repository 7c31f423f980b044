"""The figures of `bench.warm`, their targets, and their tables."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from se_server.spelling import counted

__all__ = ["FIGURES", "GROUPS", "MODES", "TARGETS", "goals", "is_met", "medians", "report", "servers"]

PACKAGES = ("openai", "anthropic", "google.genai", "litellm")
ALL = "all four"
GROUPS = {**{name: (name,) for name in PACKAGES}, ALL: PACKAGES}
MODES = ("without", "--preload", "--preload-app")
FIGURES = {
    "ready_s": "order to ready",
    "respawn_s": "killed to ready",
    "first_turn_s": "first turn",
    "tenth_turn_s": "tenth turn",
    "first_usual_s": "first turn, usual",
    "tenth_usual_s": "tenth turn, usual",
    "private_ready_bytes": "private memory, ready",
    "private_used_bytes": "private memory, after 12 turns",
}


@dataclass(frozen=True)
class Goal:
    """A target of `--preload-app`, as a ratio.

    Attributes:
        text: what is compared.
        needed: the ratio that meets it.
        at_most: whether the ratio may not be larger, rather than not smaller.
    """

    text: str
    needed: float
    at_most: bool = False


TARGETS = {
    "memory": Goal("private memory of a worker, without / with", 3.0),
    "respawn": Goal("respawn after SIGKILL, without / with", 10.0),
    "instant": Goal("first turn / tenth turn, with, a provider without delay", 1.5, at_most=True),
    "first turn": Goal("first turn / tenth turn, with, 0.2 s to the first token", 1.5, at_most=True),
    "ready": Goal("order to ready with, in units of 50 ms", 1.0, at_most=True),
}


def medians(results: dict[str, Any], group: str, mode: str) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: median(values) for name, values in results["figures"][group][mode].items()}


def servers(results: dict[str, Any]) -> str:
    """Return how many servers of each kind were measured."""
    counts = [len(figures["tenth_turn_s"]) for modes in results["figures"].values() for figures in modes.values()]
    least, most = min(counts), max(counts)
    return counted(most, "server") if least == most else f"{least} to {most} servers"


def goals(results: dict[str, Any], group: str) -> dict[str, float]:
    """Return the ratios of the targets."""
    without, warm = (medians(results, group, mode) for mode in ("without", "--preload-app"))
    return {
        "memory": without["private_used_bytes"] / warm["private_used_bytes"],
        "respawn": without["respawn_s"] / warm["respawn_s"],
        "instant": warm["first_turn_s"] / warm["tenth_turn_s"],
        "first turn": warm["first_usual_s"] / warm["tenth_usual_s"],
        "ready": warm["ready_s"] / 0.05,
    }


def is_met(name: str, ratio: float) -> bool:
    """Whether a ratio meets its target."""
    goal = TARGETS[name]
    return ratio <= goal.needed if goal.at_most else ratio >= goal.needed


def report(results: dict[str, Any]) -> str:
    """Return the tables, as Markdown."""
    lines = [
        f"Two workers, {servers(results)} of each kind taking turns; medians. {results['machine']},"
        f" Python {results['python']}, {results['made']}.",
        "",
        "| packages | | ready | respawn | first turn | tenth turn | first, usual | tenth, usual"
        " | private memory, ready | after 12 turns |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    groups = [group for group in GROUPS if group in results["figures"]]
    for group in groups:
        for mode in MODES:
            found = medians(results, group, mode)
            name = group if mode == MODES[0] else ""
            shown = f"`{mode}`" if mode.startswith("-") else mode
            times = [_shown_time(found[figure]) for figure in list(FIGURES)[:6]]
            sizes = [f"{found[figure] / 2**20:.1f} MiB" for figure in list(FIGURES)[6:]]
            lines.append(f"| {name} | {shown} | {' | '.join([*times, *sizes])} |")
    lines += ["", "| `--preload-app` against without | target | " + " | ".join(groups) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(groups))
    ratios = {group: goals(results, group) for group in groups}
    for name, goal in TARGETS.items():
        bound = f"{'at most' if goal.at_most else 'at least'} {goal.needed:g}"
        cells = [
            f"{ratios[group][name]:.1f}{'' if is_met(name, ratios[group][name]) else ' (missed)'}" for group in groups
        ]
        lines.append(f"| {goal.text} | {bound} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown_time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.{0 if seconds >= 0.01 else 1}f} ms"
