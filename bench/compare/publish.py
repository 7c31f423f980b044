"""Publishes a full comparison: bench/results/latest, and the tables of README and docs/scaling.md."""

from __future__ import annotations

from pathlib import Path

from bench.carried import MOST
from bench.compare.charts import draw
from bench.compare.documents import replaced
from bench.compare.report import markdown
from bench.compare.results import Results
from bench.compare.scaling import write_scaling
from bench.compare.scenarios import C_FRAME, C_TURN, JAVASCRIPT, LLM_OPENAI, MAIN, OURS, PUBLISHED, SCENARIOS
from bench.kernel import BenchError
from bench.load.llm_calls import TURNS
from bench.load.llm_provider import TOKENS_PER_S

__all__ = ["publish", "readme_llm_table", "readme_table"]


def publish(results: Results, checkout: Path) -> list[Path]:
    """Write results, report and charts to bench/results/latest, and update the tables; return the written paths.

    Raises:
        BenchError: the comparison is incomplete, or a document has lost its marks.
    """
    repetitions = len(results.by_repetition(OURS, MAIN[0], "cpu_us_per_turn"))
    if results.effort["is_quick"] or 0 < repetitions < 5:
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
    if table := readme_llm_table(results):
        readme.write_text(replaced(readme, "llm", table))
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


def readme_llm_table(results: Results) -> str:
    """Return README's table of calls with an LLM behind them; "" if they were not measured."""
    servers = {
        "se-server": (OURS,),
        "published SDK": PUBLISHED,
        "with FastAPI": ("published SDK, FastAPI on uvicorn",),
        "JavaScript SDK": (JAVASCRIPT,),
    }
    rows = {
        "CPU of a token, us": ("us_per_token", 1.0),
        f"CPU of a call of {TURNS} turns, ms": ("us_per_call", 1e-3),
        "conversations a core carries": ("conversations", 1.0),
    }
    lines = [
        f"| OpenAI's package, {TOKENS_PER_S:.0f} tokens a second | {' | '.join(servers)} |",
        f"| --- |{' ---: |' * len(servers)}",
    ]
    for row, (metric, scale) in rows.items():
        cells = []
        for targets in servers.values():
            found = [spread for name in targets if (spread := results.spread(name, LLM_OPENAI, metric))]
            best = (max if metric == "conversations" else min)((each.median for each in found), default=None)
            more = " or more" if metric == "conversations" and best == MOST else ""
            cells.append("" if best is None else f"{best * scale:,.0f}{more}")
        lines.append(f"| {row} | **{cells[0]}** | {' | '.join(cells[1:])} |")
        if not cells[0]:
            return ""
    return "\n".join(lines)
