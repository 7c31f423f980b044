"""The output of `se-bench load`: a live table, or lines in a pipe, and the summary."""

from __future__ import annotations

import textwrap
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from se_server.cli.screen import printable
from se_server.load import Histogram
from se_server.load.process import Figures
from se_server.load.report import PERCENTILES, Report
from se_server.spelling import counted

LINE_EVERY_S = 5.0
SPARKS = "▁▂▃▄▅▆▇█"
ASCII_SPARKS = "._-=+*%@"
SPARK_COLUMNS = 30
FIGURE_COLUMNS = 68
"""Columns of the live table without its curves."""
MAX_COLUMNS = 110
BAR_COLUMNS = 40


class LoadScreen:
    """Shows the figures during the run. A context manager.

    Args:
        console: the output.
        title: the server under load.
        about: the load, in a sentence.
        duration_s: the length of the run, in seconds.
    """

    def __init__(self, console: Console, title: str, about: str, duration_s: float) -> None:
        self._console = console
        self._title = title
        self._about = about
        self._duration_s = duration_s
        self._live: Live | None = None
        self._before: tuple[float, Figures] | None = None
        self._line_at = 0.0
        self._rates: deque[float] = deque(maxlen=SPARK_COLUMNS)
        self._firsts: deque[float] = deque(maxlen=SPARK_COLUMNS)
        self._finals: deque[float] = deque(maxlen=SPARK_COLUMNS)

    def __enter__(self) -> LoadScreen:
        self._console.print(
            Text("se-bench load ", style="bold").append(printable(self._title), style="not bold"), soft_wrap=True
        )
        for line in textwrap.wrap(self._about, _width(self._console)):
            self._console.print(Text(line, style="dim"), soft_wrap=True)
        if self._console.is_terminal:
            self._live = Live(Text(""), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def connecting(self, up: int, wanted: int) -> None:
        """Show the number of open conversations so far."""
        if self._live is not None:
            self._live.update(_bar(f"connecting: {up:,} of {wanted:,}", up / wanted), refresh=True)

    def running(self, elapsed_s: float, figures: Figures) -> None:
        """Show the figures so far."""
        now = time.monotonic()
        if self._before is None:
            self._before = now, Figures()
        before_at, before = self._before
        first, final = (figures.first_chunk.since(before.first_chunk), figures.final.since(before.final))
        rate = (figures.turns - before.turns) / max(1e-9, now - before_at)
        if self._live is None:
            if now - self._line_at >= LINE_EVERY_S and self._line_at:
                self._console.print(_line(elapsed_s, rate, figures, first, final), soft_wrap=True)
                self._line_at, self._before = now, (now, figures)
            self._line_at = self._line_at or now
            return
        if now - before_at >= 1.0:
            self._before = now, figures
            self._rates.append(rate)
            self._firsts.append(first.percentile(99))
            self._finals.append(final.percentile(99))
        self._live.update(self._table(elapsed_s, rate, figures, first, final), refresh=True)

    def _table(self, elapsed_s: float, rate: float, figures: Figures, first: Histogram, final: Histogram) -> Group:
        table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
        table.add_column("", no_wrap=True)
        # The figures come first: on a narrow terminal the curves are short.
        columns = max(8, min(SPARK_COLUMNS, self._console.width - FIGURE_COLUMNS))
        table.add_column(
            f"last {max(1, min(columns, len(self._rates)))} s", no_wrap=True, min_width=columns, max_width=columns
        )
        for name in ("now", "p50", "p99", "overall"):
            table.add_column(name, justify="right", no_wrap=True, min_width=7)
        is_ascii = self._console.options.ascii_only
        rates = _sparks(list(self._rates)[-columns:], "cyan", is_ascii)
        table.add_row("turns/s", rates, f"{rate:,.0f}", "", "", counted(figures.turns, "turn"))
        for name, sparks, recent, whole in (
            ("first chunk, p99", self._firsts, first, figures.first_chunk),
            ("final, p99", self._finals, final, figures.final),
        ):
            table.add_row(
                name,
                _sparks(list(sparks)[-columns:], "green", is_ascii),
                "",
                duration(recent.percentile(50)) if recent.count else "–",
                duration(recent.percentile(99)) if recent.count else "–",
                f"p99 {duration(whole.percentile(99))}" if whole.count else "–",
            )
        errors = Text(counted(figures.errors, "error"), style="bold red" if figures.errors else "green")
        state = Text(f"{counted(figures.up, 'conversation')} up", style="").append("   ").append_text(errors)
        if figures.resends:
            state.append(f"   {figures.resends:,} asked again", style="yellow")
        share = min(1.0, elapsed_s / self._duration_s)
        progress = f"{min(elapsed_s, self._duration_s):.0f} of {self._duration_s:g} s"
        if elapsed_s >= self._duration_s + 1:
            progress += f", {elapsed_s - self._duration_s:.0f} s for the last answers"
        return Group(_bar(progress, share), table, state)


def show_report(console: Console, report: Report) -> None:
    """Print the summary."""
    is_plain = not console.is_terminal or console.options.ascii_only
    width = _width(console)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for percent in PERCENTILES:
        table.add_column("max" if percent == 100 else f"p{percent:g}", justify="right", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True, style="dim")
    for name, histogram in (
        ("to the first chunk", report.first_chunk),
        ("to the final", report.final),
        ("handshake", report.handshake),
    ):
        figures = [duration(histogram.percentile(percent)) if histogram.count else "–" for percent in PERCENTILES]
        table.add_row(name, *figures, f"{histogram.count:,}")
    console.print(table)
    for line in _totals(report):
        console.print(Text(line), soft_wrap=True)
    if report.errors:
        console.print(Text(counted(report.error_count, "error"), style="bold red"))
        for kind, count in report.errors.items():
            said = report.examples.get(kind, [""])[0]
            head = f"  {count:>7,}  {kind:<14} "
            for number, line in enumerate(textwrap.wrap(printable(said), max(30, width - len(head))) or [""]):
                console.print(Text(" " * len(head) if number else head, style="red").append(line), soft_wrap=True)
    for remark in report.remarks():
        for number, line in enumerate(textwrap.wrap(remark, width - 2)):
            console.print(Text(("  " if number else "! ") + line, style="yellow"), soft_wrap=True)
    for verdict in report.verdicts:
        mark = (("ok  ", "FAIL") if is_plain else ("✓", "✗"))[not verdict.is_kept]
        console.print(Text(f"{mark} {verdict.what}", style="green" if verdict.is_kept else "bold red"), soft_wrap=True)


def _width(console: Console) -> int:
    """Return the number of columns to fill: a pipe has no width."""
    return min(console.width, MAX_COLUMNS) if console.is_terminal else MAX_COLUMNS


def duration(seconds: float) -> str:
    """Format a duration with three digits: `85 us`, `1.23 ms`, `4.05 s`."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{_three_digits(seconds)} s"


def _three_digits(value: float) -> str:
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _totals(report: Report) -> list[str]:
    per_turn = f"{report.chunks / report.turns:.1f} chunks each" if report.turns else f"{report.chunks:,} chunks"
    asked = "" if report.plan.turns_per_s is None else f" of {report.plan.turns_per_s:g} asked for"
    megabytes = [count / report.wall_s / 1e6 for count in (report.sent_bytes, report.received_bytes)]
    lines = [
        f"{counted(report.turns, 'turn')} in {report.wall_s:.1f} s{', stopped early' if report.was_stopped else ''}:"
        f" {report.turns_per_s:,.1f} a second{asked}, {per_turn};"
        f" {megabytes[0]:.2f} MB/s to the server, {megabytes[1]:.2f} MB/s back"
    ]
    events = [
        f"{count:,} {what}"
        for count, what in (
            (report.interrupted, "interrupted by their users"),
            (report.resends, "asked again for lack of an answer"),
            (report.late_texts, "texts came too late"),
        )
        if count
    ]
    if events:
        lines.append(", ".join(events))
    count = len(report.shares)
    busy = f"up to {max(report.shares):.0%}" if count > 1 else f"{report.shares[0]:.0%}"
    lines.append(f"generator: {count} process{'' if count == 1 else 'es'}, {busy} of a core")
    return lines


def _line(elapsed_s: float, rate: float, figures: Figures, first: Histogram, final: Histogram) -> str:
    return (
        f"{elapsed_s:4.0f} s: {figures.up:,} up, {rate:,.0f} turns/s,"
        f" first chunk p50 {duration(first.percentile(50))} p99 {duration(first.percentile(99))},"
        f" final p50 {duration(final.percentile(50))} p99 {duration(final.percentile(99))},"
        f" {counted(figures.errors, 'error')}"
    )


def _bar(text: str, share: float) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=share, width=BAR_COLUMNS), Text(text, style="bold"))
    return grid


def _sparks(values: Sequence[float], style: str, is_ascii: bool) -> Text:
    """Draw the values as bars; the largest has the full height."""
    top = max(values, default=0.0)
    sparks = ASCII_SPARKS if is_ascii else SPARKS
    steps = [sparks[min(len(sparks) - 1, int(value / top * len(sparks)))] if top else sparks[0] for value in values]
    return Text("".join(steps), style=style)
