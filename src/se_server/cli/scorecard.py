"""The scorecard of se-doctor: one line a case, and advice on each fault."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from se_server.cli.screen import printable
from se_server.doctor.advice import first_step
from se_server.doctor.cases import Case
from se_server.doctor.engine import EngineFinding
from se_server.doctor.results import Finding, Result, State, count

MARKS = {State.PASS: "✓", State.FAIL: "✗", State.WARNING: "!", State.NOT_TESTED: "–"}
PLAIN_MARKS = {State.PASS: "ok", State.FAIL: "FAIL", State.WARNING: "warn", State.NOT_TESTED: "--"}
COLOURS = {State.PASS: "green", State.FAIL: "bold red", State.WARNING: "yellow", State.NOT_TESTED: "dim"}
NAME_CHARS = 20
TITLE_CHARS = 51
HEARD_CHARS = 28
WIDE_CHARS = 116
PIPE_CHARS = 200
MAX_CHARS = 120


class Scorecard:
    """Shows findings and results as they arrive. A context manager.

    Args:
        console: the output.
        total: the number of cases.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._group = ""
        self._running: list[str] = []
        self._done = 0
        self._status: Status | None = None
        # Use ASCII marks in pipes, where they are easy to grep, and for encodings without the others.
        is_plain = not console.is_terminal or console.options.ascii_only
        self._marks = PLAIN_MARKS if is_plain else MARKS
        self._mark_chars = max(map(len, self._marks.values()))

    def __enter__(self) -> Scorecard:
        if self._console.is_terminal:
            self._status = self._console.status("[dim]connecting[/]", spinner="dots")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    @property
    def width(self) -> int:
        """The number of columns to fill. A pipe has no width, and wrapped lines are hard to search."""
        return min(self._console.width, MAX_CHARS) if self._console.is_terminal else PIPE_CHARS

    def title(self, url: str, about: str) -> None:
        """Show the server under examination."""
        self._console.print(f"[bold]se-doctor[/] {escape(url)}", highlight=False, soft_wrap=True)
        for line in textwrap.wrap(about, self.width):
            self._console.print(Text(line, style="dim"))

    def heading(self, text: str) -> None:
        """Begin a group, unless it is the current one."""
        if text != self._group:
            self._group = text
            self._console.print()
            self._console.print(Text(text, style="bold"))

    def started(self, case: Case) -> None:
        """Show that a case has started."""
        self._running.append(case.name)
        self._update_status()

    def finding(self, finding: Finding, heading: str = "Set-up") -> None:
        """Show a finding of the set-up, or of an engine."""
        self.heading(heading)
        self._line(finding.name, finding.state, finding.why)
        if finding.way_out:
            self._below(f"→ {finding.way_out}", "cyan" if finding.state is State.FAIL else "dim")
        if isinstance(finding, EngineFinding) and finding.call:
            self._below(finding.call, "dim")

    def result(self, result: Result) -> None:
        """Show the result of a case."""
        self._done += 1
        if result.name in self._running:
            self._running.remove(result.name)
        self._update_status()
        self.heading(result.group)
        heard = quoted(result.heard, HEARD_CHARS if result.state is State.PASS else MAX_CHARS) if result.heard else ""
        if result.state is State.PASS:
            # On a narrow terminal the heard words replace the title, which the name implies.
            title = f"{result.title:<{TITLE_CHARS}} " if self.width >= WIDE_CHARS else ""
            self._line(result.name, result.state, title, f"{result.why}  {heard}")
        elif result.state is State.FAIL:
            self._line(result.name, result.state, f"{result.title}: {result.why}. Heard {heard or 'nothing'}.")
        elif result.state is State.NOT_TESTED and self.width < WIDE_CHARS:
            self._line(result.name, result.state, result.why)
        else:
            self._line(result.name, result.state, f"{result.title}: {result.why}")

    def summary(self, results: Sequence[Result | Finding], seconds: float) -> None:
        """Show the number of results in each state, and what to do first."""
        counts = count(results)
        words = {State.PASS: "passed", State.FAIL: "failed", State.WARNING: "warnings", State.NOT_TESTED: "not tested"}
        text = Text("\n")
        for state, number in counts.items():
            text.append(f"{number} {words[state]}", style=COLOURS[state]).append("  ")
        text.append(f"in {seconds:.0f} s", style="dim")
        self._console.print(text)
        for line in textwrap.wrap(printable(first_step(results)), min(self.width, MAX_CHARS)):
            self._console.print(Text(line, style="bold" if State.FAIL in counts else ""), soft_wrap=True)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _update_status(self) -> None:
        if self._status is not None:
            room = self.width - 24
            names = textwrap.shorten(", ".join(self._running), room, placeholder=" …")
            self._status.update(f"[dim]{self._done} of {self._total} · {escape(names)}[/]")

    def _line(self, name: str, state: State, text: str, more: str = "") -> None:
        """Show one result, shortened to one line; a failure is shown in full."""
        colour = COLOURS[state]
        indent = self._mark_chars + NAME_CHARS + 4
        room = max(20, self.width - indent)
        head = (
            Text("  ")
            .append(f"{self._marks[state]:<{self._mark_chars}}", style=colour)
            .append(f" {name:<{NAME_CHARS}} ")
        )
        text, more = printable(text), printable(more)
        if state is State.PASS:
            line = Text(_shortened(text, room))
            self._console.print(
                head + line.append(_shortened(more.rstrip(), room - len(line)), style="dim"), soft_wrap=True
            )
            return
        lines = textwrap.wrap(text, room) or [""]
        self._console.print(head.append(lines[0], style=colour), soft_wrap=True)
        for line_text in lines[1:]:
            self._console.print(Text(" " * indent).append(line_text, style=colour), soft_wrap=True)

    def _below(self, text: str, style: str) -> None:
        indent = self._mark_chars + NAME_CHARS + 4
        for number, line in enumerate(textwrap.wrap(printable(text), self.width - indent - 2)):
            self._console.print(Text(" " * (indent + (2 if number else 0)) + line, style=style), soft_wrap=True)


def quoted(text: str, chars: int) -> str:
    """Return heard words in quotation marks, on one line of at most `chars` characters."""
    return f"“{_shortened(' '.join(text.split()), chars - 2)}”"


def _shortened(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: max(0, chars - 1)].rstrip() + "…"
