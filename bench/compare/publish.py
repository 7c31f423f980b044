"""Publishes a full comparison: bench/results/latest, and the tables of README and docs/scaling.md."""

from __future__ import annotations

from pathlib import Path

from bench.compare.charts import draw
from bench.compare.documents import replaced
from bench.compare.report import markdown
from bench.compare.results import Results
from bench.compare.scaling import write_scaling
from bench.compare.scenarios import C_FRAME, C_TURN, JAVASCRIPT, MAIN, OURS, PUBLISHED, SCENARIOS
from bench.kernel import BenchError

__all__ = ["publish", "readme_table"]


def publish(results: Results, checkout: Path) -> list[Path]:
    """Write results, report and charts to bench/results/latest, and update the tables; return the written paths.

    Raises:
        BenchError: the comparison is incomplete, or a document has lost its marks.
    """
    if results.effort["is_quick"] or results.effort["repetitions"] < 5:
        raise BenchError("only a full comparison is published: five repetitions, and not --quick")
    lacking = [name for name in MAIN if results.best((OURS,), name, "cpu_us_per_turn") is None]
    if lacking:
        raise BenchError(f"only a whole comparison is published, and this one lacks {', '.join(lacking)}")
    folder = checkout / "bench" / "results" / "latest"
    charts = draw(results, folder)
    results.write(folder / "results.json")
    (folder / "report.md").write_text(markdown(results, charts))
    readme = checkout / "README.md"
    readme.write_text(replaced(readme, "compare", readme_table(results)))
    return [folder, readme, write_scaling(results, checkout)]


def readme_table(results: Results) -> str:
    """Return README's table and chart: the cost of a turn, and its ratio to the published SDK's."""
    lines = [
        f"| CPU microseconds per turn, {results.made} | published SDK | JavaScript SDK | se-server | bare C |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in MAIN:
        cells = []
        for targets in (PUBLISHED, (JAVASCRIPT,), (OURS,), (C_FRAME if name == "trickle" else C_TURN,)):
            best = results.best(targets, name, "cpu_us_per_turn")
            spread = best and results.spread(best, name, "cpu_us_per_turn")
            cells.append(f"{spread.median:,.0f}" if spread else "")
        peer = results.best(PUBLISHED, name, "cpu_us_per_turn")
        ratio = peer and results.ratio(peer, OURS, name, "cpu_us_per_turn")
        cells[2] = f"**{cells[2]}**"
        if ratio:
            cells[0] += f" ({ratio.median:.{0 if ratio.median >= 10 else 1}f} times)"
        lines.append(f"| {SCENARIOS[name].title} | {' | '.join(cells)} |")
    alt = "CPU microseconds per turn of se-server, both published SDKs, frameworks and the bare machine"
    return "\n".join([*lines, "", f"![{alt}](bench/results/latest/cost.svg)"])
