"""The figures of turns that `se-ctl` shows: the lines below the table of workers, and the slow turns part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from se_server.cli.ctl_tables import age, new_table, printable
from se_server.telemetry.families import Distribution

if TYPE_CHECKING:
    from rich.console import Group

PARTS = ("socket", "wait", "handler", "provider", "thinking", "write")


def duration(value: float | None) -> str:
    """Return a short form of a time: `-`, `0.4 ms`, `85 ms`, `1.24 s`."""
    if value is None:
        return "-"
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def figure_lines(answer: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> list[str]:
    """Return the lines below the table of `status`.

    Args:
        answer: the server's answer.
        before: an earlier answer, since which turns are counted; None counts those since the start.
    """
    now = answer["figures"]
    former = None if before is None else before["figures"]
    if former is None or former["started_at_s"] != now["started_at_s"]:  # an upgrade begins to count anew
        former = {"now_s": now["started_at_s"], "first_text": [], "outcomes": {}}
    since = f"last {now['now_s'] - former['now_s']:.0f} s" if before is not None else "since the start"
    first = Distribution(tuple(now["bounds"]), _less(now["first_text"], former["first_text"]), 0.0)
    outcomes = zip(now["outcomes"], _less(now["outcomes"].values(), former["outcomes"].values()), strict=True)
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes if count)
    quantiles = ", ".join(f"p{share} {duration(first.quantile(share / 100))}" for share in (50, 95, 99))
    refused = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in now["refusals"].items())
    limits = ", ".join(f"{name} {value}" for name, value in answer["limits"].items())
    observed = [f"page and metrics: {answer['admin']}"] if answer["admin"] else []
    return [
        f"se-server {answer['version']}, up {age(now['now_s'] - now['started_at_s'])}, at"
        f" {', '.join(map(printable, answer['addresses']))}",
        *observed,
        f"limits: {limits or 'none'}",
        f"turns {since}: {counted or 'none'}",
        f"first text {since}: {quantiles}",
        f"refused since the start: {refused or 'nobody'}",
    ]


def _less(now: Iterable[int], before: Iterable[int]) -> tuple[int, ...]:
    counts, former = tuple(now), tuple(before)
    return tuple(late - early for late, early in zip(counts, former or (0,) * len(counts), strict=True))


def turns_view(answer: Mapping[str, Any]) -> Group:
    """Return the table that `turns` shows, the slowest turn first."""
    from rich.console import Group
    from rich.text import Text

    numbers = ("turn", "first text", *PARTS, "ago")
    table = new_table("conversation", "turn", "first text", *PARTS, "outcome", "ago", numbers=numbers)
    for turn in answer["rows"]:
        name = turn["conversation"]["id"]
        table.add_row(
            Text("(no init yet)", style="dim") if name is None else Text(printable(name)),
            "-" if turn["event_id"] is None else str(turn["event_id"]),
            duration(turn["first_text_s"]),
            *(duration(part) for part in turn["parts"]),
            str(turn["outcome"]).replace("_", " "),
            age(turn["ago_s"]),
        )
    blocks = sorted({turn["blocked_by"] for turn in answer["rows"] if turn.get("blocked_by")})
    note = "the parts of the time to first text; the slowest turns of the last hour" if answer["rows"] else "no turns"
    lines = [note, *(f"the event loop was blocked by {printable(block)}" for block in blocks)]
    return Group(table, Text("\n".join(lines)))
