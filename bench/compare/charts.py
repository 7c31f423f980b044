"""The charts: one style, colours for the colour-blind (Okabe and Ito), our line in front, labels in place.

Drawn from the results alone, the same bytes each time, so that a chart changes in git only when its figures do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.compare.results import Results
from bench.compare.scenarios import C_TURN, JAVASCRIPT, MAIN, OURS, PUBLISHED, PYTHON, SCENARIOS, TLS
from bench.compare.tables import CROWDS, amount
from bench.kernel import BenchError

__all__ = ["CHARTS", "draw"]

INK, FAINT, GRID = "#1b1f24", "#6a737d", "#e4e7eb"
COLOURS = {
    "published SDK": "#d55e00",
    "published SDK, FastAPI": "#cc79a7",
    "JavaScript SDK": "#e69f00",
    "plain picows": "#009e73",
    "se-server": "#0072b2",
    "picows in Cython": "#56b4e9",
    "bare C": "#6a737d",
}
"""Colours by the beginning of a server's name: the peers, ours, and the limits."""
IN_LINES = (OURS, *reversed(PUBLISHED), JAVASCRIPT, C_TURN)
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "se-server",
}

LOG_LOG, LINEAR = ("log", "log"), ("linear", "linear")
TOKEN_BYTES = 5
"""About the size of an ordinary chunk."""
LAST_SHARE = 0.999
"""Beyond this share a run has too few turns for a line."""

Line = tuple[str, Sequence[float], Sequence[float]]


def colour_of(target: str) -> str:
    """Return the colour of a server."""
    return COLOURS[family_of(target)]


def family_of(target: str) -> str:
    """Return the beginning of a server's name that is a key of the colours."""
    return max((family for family in COLOURS if target.startswith(family)), key=len)


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Draw all charts that have figures; return their titles by file name.

    Raises:
        BenchError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise BenchError("the charts need matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    with pyplot.rc_context(STYLE):
        for name, (title, chart) in CHARTS.items():
            figure = chart(results, pyplot)
            if figure is None:
                continue
            figure.text(0.012, 0.985, title, fontsize=13, fontweight="bold", va="top")
            figure.text(0.012, 0.012, _conditions(results), fontsize=7.5, color=FAINT, va="bottom")
            figure.savefig(folder / name, metadata={"Date": None})
            pyplot.close(figure)
            drawn[name] = title
    return drawn


def _conditions(results: Results) -> str:
    several = len(results.runs) > 1
    medians = (
        "medians over several runs" if several else f"medians of {results.runs[0].repetitions} interleaved repetitions"
    )
    return f"{results.machine['processor']}, server on one core · {medians} · {results.made} · se-bench compare"


# --- bars -----------------------------------------------------------------------------------------------------------


def _cost_bars(results: Results, pyplot: Any) -> Any:
    """Draw CPU time of a turn: a panel per scenario, a bar per server, ours just before the limits."""
    panels = [name for name in MAIN if any(results.spread(t, name, "cpu_us_per_turn") for t in results.targets)]
    names = [
        target
        for target in results.targets
        if not target.endswith((TLS, "workers"))
        and not target.startswith(PYTHON)
        and any(results.spread(target, name, "cpu_us_per_turn") for name in panels)
    ]
    if not panels or len(names) < 2:
        return None
    places = {family: place for place, family in enumerate(COLOURS)}
    names.sort(key=lambda name: places[family_of(name)])
    height = 1.7 + 0.3 * len(names)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(2.1 + 1.95 * len(panels), height), sharey=True)
    for axis, panel in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
        longest = max(spread.high for n in names if (spread := results.spread(n, panel, "cpu_us_per_turn")))
        for place, name in enumerate(names):
            spread = results.spread(name, panel, "cpu_us_per_turn")
            if spread is None:
                continue
            is_ours = name == OURS
            axis.barh(place, spread.median, 0.68, color=colour_of(name), alpha=1.0 if is_ours else 0.55)
            axis.plot([spread.low, spread.high], [place, place], color=INK, linewidth=0.8, alpha=0.6)
            axis.text(
                spread.high + longest * 0.03,
                place,
                f"{spread.median:,.{1 if spread.median < 10 else 0}f}",
                va="center",
                fontsize=9,
                color=colour_of(name) if is_ours else INK,
                fontweight="bold" if is_ours else "normal",
            )
        first, _, second = SCENARIOS[panel].title.partition(", ")
        axis.set_title(f"{first}\n{second}", fontsize=9, fontweight="normal", color=INK, pad=22)
        peer = results.best(PUBLISHED, panel, "cpu_us_per_turn")
        ratio = peer and results.ratio(peer, OURS, panel, "cpu_us_per_turn")
        if ratio:
            words = f"{ratio.median:.{0 if ratio.median >= 10 else 1}f} times less"
            axis.annotate(words, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, fontweight="bold",
                          color=COLOURS[OURS])  # fmt: skip
        axis.set_xlim(0, longest * 1.3)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["bottom"].set_visible(False)
    first_axis = axes if len(panels) == 1 else axes[0]
    first_axis.set_yticks(range(len(names)), names)
    for label, name in zip(first_axis.get_yticklabels(), names, strict=True):
        label.set_color(colour_of(name) if name == OURS else INK)
        label.set_fontweight("bold" if name == OURS else "normal")
    figure.tight_layout(rect=(0, 0.04, 1, 0.93), w_pad=0.8)
    return figure


# --- lines ----------------------------------------------------------------------------------------------------------


def _lines(pyplot: Any, lines: Sequence[Line], x_label: str, y_label: str, *, scales: tuple[str, str]) -> Any:
    """Draw lines with their names and last values at their right ends."""
    figure, axis = pyplot.subplots(figsize=(9.2, 4.8))
    axis.set_xscale(scales[0])
    axis.set_yscale(scales[1])
    for name, xs, ys in lines:
        is_ours = name == OURS
        axis.plot(
            xs,
            ys,
            color=colour_of(name),
            linewidth=3.0 if is_ours else 1.6,
            linestyle=(0, (4, 2)) if name.endswith("asyncio") else "-",
            marker="o" if len(xs) < 10 else None,
            markersize=6 if is_ours else 4,
            zorder=3 if is_ours else 2,
        )
    axis.set_xlabel(x_label)
    axis.text(0, 1.03, y_label, transform=axis.transAxes, color=FAINT)
    axis.grid(visible=False, axis="x")
    return figure


def _name_lines(axis: Any, lines: Sequence[Line]) -> None:
    """Write each line's name at its end, moved apart where they would overlap."""
    ends = sorted((axis.transAxes.inverted().transform(axis.transData.transform((xs[-1], ys[-1])))[1], name, xs, ys)
                  for name, xs, ys in lines)  # fmt: skip
    places: list[float] = []
    for height, *_ in ends:
        places.append(max(height, places[-1] + 0.052) if places else height)
    for (height, name, _, ys), place in zip(ends, places, strict=True):
        axis.annotate(
            f"{name}  {amount(ys[-1])}",
            (1.0, height),
            (1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour_of(name),
            fontweight="bold" if name == OURS else "normal",
            arrowprops={"arrowstyle": "-", "color": colour_of(name), "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0},
            annotation_clip=False,
        )


def _cost_lines(results: Results, scenarios: dict[int, str]) -> list[Line]:
    lines: list[Line] = []
    for target in IN_LINES:
        found = {x: results.spread(target, name, "cpu_us_per_turn") for x, name in scenarios.items()}
        points = [(float(x), spread.median) for x, spread in found.items() if spread is not None]
        if len(points) > 1:
            lines.append((target, [x for x, _ in points], [y for _, y in points]))
    return lines


def _history_lines(results: Results, pyplot: Any) -> Any:
    sizes = (1, 10, 100, 1000, 2000)
    lines = _cost_lines(results, {size: f"history-{size}" for size in sizes})
    if not lines:
        return None
    figure = _lines(pyplot, lines, "messages in the transcript, one of them new", "CPU µs per turn", scales=LOG_LOG)
    return _finish(figure, lines, {size: f"{size:,}" for size in sizes})


def _crowd_lines(results: Results, pyplot: Any) -> Any:
    lines = _cost_lines(results, {number: f"one-{number}" if number != 100 else "one" for number in CROWDS})
    if not lines:
        return None
    figure = _lines(pyplot, lines, "conversations that ask again at once", "CPU µs per turn", scales=LOG_LOG)
    return _finish(figure, lines, {number: f"{number:,}" for number in CROWDS if number != 10_000})


def _size_lines(results: Results, pyplot: Any) -> Any:
    lines = _cost_lines(results, {TOKEN_BYTES: "burst-8", 100: "size-100", 1000: "size-1000", 10_000: "size-10000"})
    if not lines:
        return None
    figure = _lines(pyplot, lines, "bytes in each of 8 chunks", "CPU µs per turn", scales=LOG_LOG)
    return _finish(figure, lines, {size: f"{size:,}" for size in (TOKEN_BYTES, 100, 1_000, 10_000)})


def _worker_lines(results: Results, pyplot: Any) -> Any:
    """Draw our cost by the number of workers, which share the server's core."""
    found = {1: OURS, **{number: f"{OURS}, {number} workers" for number in (2, 4, 8)}}
    spreads = {number: results.spread(name, "one-1000", "cpu_us_per_turn") for number, name in found.items()}
    points = [(float(number), spread.median) for number, spread in spreads.items() if spread is not None]
    if len(points) < 2:
        return None
    lines: list[Line] = [(OURS, [x for x, _ in points], [y for _, y in points])]
    figure = _lines(pyplot, lines, "workers on one core, 1,000 conversations", "CPU µs per turn", scales=LINEAR)
    figure.axes[0].set_ylim(0, 1.08 * max(lines[0][2]))  # room for the mark of the highest point
    return _finish(figure, lines, {number: str(number) for number in found})


def _chunk_lines(results: Results, pyplot: Any) -> Any:
    lines = _cost_lines(results, {1: "one", 8: "burst-8", 32: "burst"})
    if not lines:
        return None
    figure = _lines(pyplot, lines, "chunks in the answer, ready together", "CPU µs per turn", scales=("linear", "log"))
    return _finish(figure, lines, {number: f"{number}" for number in (1, 8, 16, 24, 32)})


def _memory_lines(results: Results, pyplot: Any) -> Any:
    lines = []
    for target in IN_LINES:
        points = results.held(target)
        if len(points) > 1:
            base = points[0][1]
            lines.append((target, [held for held, _ in points], [(used - base) / 1e6 for _, used in points]))
    if not lines:
        return None
    marks = lines[0][1]
    unit = f"MB more than with {marks[0]} conversations"
    figure = _lines(pyplot, lines, "idle conversations, after one turn each", unit, scales=LINEAR)
    return _finish(figure, lines, {held: f"{held:,}" for held in marks})


def _latency_curves(results: Results, pyplot: Any) -> Any:
    """Draw the distribution function on its side: the longest wait by share of turns."""
    lines = []
    for target in IN_LINES:
        curve = [(share, seconds * 1e3) for share, seconds in results.curves.get(target, ()) if share <= LAST_SHARE]
        if curve:
            lines.append((target, [share for share, _ in curve], [wait_ms for _, wait_ms in curve]))
    if not lines:
        return None
    figure = _lines(
        pyplot, lines, "share of turns that wait no longer", "ms to the first chunk", scales=("logit", "log")
    )
    shares = {0.01: "1%", 0.1: "10%", 0.5: "50%", 0.9: "90%", 0.99: "99%", LAST_SHARE: "99.9%"}
    return _finish(figure, lines, shares)


def _finish(figure: Any, lines: Sequence[Line], marks: Mapping[float, str]) -> Any:
    """Label the axes with plain numbers and the lines with their names."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axis = figure.axes[0]
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(list(marks), list(marks.values()))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    figure.tight_layout(rect=(0, 0.04, 0.74, 0.93))
    _name_lines(axis, lines)
    return figure


CHARTS: dict[str, tuple[str, Callable[[Results, Any], Any]]] = {
    "cost.svg": ("CPU microseconds per turn; in blue, against the published SDK", _cost_bars),
    "latency.svg": ("Time to the first chunk, at 400 turns a second", _latency_curves),
    "history.svg": ("CPU time of a turn as the conversation grows longer", _history_lines),
    "chunks.svg": ("CPU time of a turn as the answer grows longer", _chunk_lines),
    "conversations.svg": ("CPU time of a turn as the conversations grow more", _crowd_lines),
    "sizes.svg": ("CPU time of a turn as the chunks grow larger", _size_lines),
    "workers.svg": ("CPU time of a turn as the workers grow more", _worker_lines),
    "memory.svg": ("Memory of idle conversations", _memory_lines),
}
