"""The charts of `bench.warm`, each in a light and a dark form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.compare.charts import STYLE
from bench.warm_figures import GROUPS, MODES, medians, servers

__all__ = ["draw"]

COLOURS = {"without": "#d55e00", "--preload": "#009e73", "--preload-app": "#0072b2"}
DARK_COLOURS = {**COLOURS, "--preload-app": "#3d9be0"}
PANELS = {
    "private_used_bytes": ("private memory after 12 turns, MiB", 2.0**-20),
    "respawn_s": ("SIGKILL to the next one's ready, ms", 1e3),
    "first_turn_s": ("first turn, provider without delay, ms", 1e3),
}
LIGHT = {"text": "#1b1f24", "faint": "#6a737d", "page": "white", "grid": "#e4e7eb"}
DARK = {"text": "#e6edf3", "faint": "#9198a1", "page": "#0d1117", "grid": "#30363d"}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Draw all charts into a folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for suffix, ink, colours in (("", LIGHT, COLOURS), ("-dark", DARK, DARK_COLOURS)):
        style = STYLE | {
            "text.color": ink["text"],
            "axes.edgecolor": ink["grid"],
            "axes.labelcolor": ink["faint"],
            "axes.facecolor": ink["page"],
            "grid.color": ink["grid"],
            "xtick.color": ink["faint"],
            "ytick.color": ink["text"],
            "figure.facecolor": ink["page"],
            "savefig.facecolor": ink["page"],
        }
        with pyplot.rc_context(style):
            figure = _bars(results, pyplot, colours, ink)
            figure.savefig(folder / f"warm{suffix}.svg", metadata={"Date": None})
            pyplot.close(figure)


def _bars(results: dict[str, Any], pyplot: Any, colours: dict[str, str], ink: dict[str, str]) -> Any:
    """Draw a panel for each figure: for each group of packages a bar for each mode."""
    groups = [group for group in GROUPS if group in results["figures"]]
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11.4, 0.95 + 0.82 * len(groups)), sharey=True)
    for axis, (name, (title, factor)) in zip(axes, PANELS.items(), strict=True):
        for row, group in enumerate(groups):
            # Each group has a scale of its own: one package takes ten times as long as another.
            longest = max(medians(results, group, mode)[name] for mode in MODES) * factor
            for place, mode in enumerate(MODES):
                value = medians(results, group, mode)[name] * factor
                spot = row + (place - 1) * 0.27
                axis.barh(spot, value / longest, 0.25, color=colours[mode])
                axis.text(
                    value / longest + 0.02,
                    spot,
                    f"{value:,.{1 if value < 10 else 0}f}",
                    va="center",
                    fontsize=8,
                    color=colours[mode] if mode == MODES[-1] else ink["text"],
                    fontweight="bold" if mode == MODES[-1] else "normal",
                )
        axis.set_title(title, fontsize=9, fontweight="normal", color=ink["text"])
        axis.set_xlim(0, 1.18)
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["bottom"].set_visible(False)
    axes[0].set_yticks(range(len(groups)), groups)
    figure.tight_layout(rect=(0, 0.05, 1, 0.88), w_pad=1.2)
    figure.text(0.012, 0.985, "A worker, warm before the fork", fontsize=13, fontweight="bold", va="top")
    for place, mode in enumerate(MODES):
        figure.text(
            0.45 + 0.16 * place, 0.975, f"■ {mode}", fontsize=10, fontweight="bold", color=colours[mode], va="top"
        )
    words = f"{results['machine']} · medians of {servers(results)} of each kind, interleaved · {results['made']}"
    figure.text(0.012, 0.012, f"{words} · python -m bench.warm", fontsize=7.5, color=ink["faint"], va="bottom")
    return figure
