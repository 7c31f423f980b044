"""Progress of the comparison and the time left. Drawn between measurements only: it shares the load's core."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["Live"]


class Live:
    """A progress bar on a terminal, and a line for each server elsewhere. A context manager, called at each step.

    Args:
        console: the output.
        expected_s: the estimated duration in seconds.
    """

    def __init__(self, console: Console, expected_s: float) -> None:
        self._expected_s = expected_s
        self._done_s, self._step_s = 0.0, 0.0
        self._began_s = 0.0
        self._console = console
        self._said = ""
        self._progress = Progress(
            TextColumn("[bold]{task.percentage:>3.0f}%"),
            BarColumn(28),
            TextColumn("{task.fields[left]}", style="cyan"),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = TaskID(0)

    def __enter__(self) -> Live:
        self._began_s = time.monotonic()
        self._console.print(f"This takes about {_minutes(self._expected_s)}.", highlight=False)
        self._task = self._progress.add_task("", total=self._expected_s, left="")
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, step_s: float) -> None:
        self._done_s += self._step_s
        self._step_s = step_s
        left = f"{_minutes(self._left_s())} left"
        if self._console.is_terminal:
            done_s = min(self._done_s, self._expected_s)
            self._progress.update(self._task, completed=done_s, description=what, left=left, refresh=True)
        elif (server := what.partition(":")[0]) != self._said:
            self._said = server
            self._console.print(f"{self._done_s / self._expected_s:4.0%} {server} ({left})", highlight=False)

    def _left_s(self) -> float:
        """Return the time left at the pace so far."""
        pace = (time.monotonic() - self._began_s) / self._done_s if self._done_s else 1.0
        return max(0.0, self._expected_s - self._done_s) * pace


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
