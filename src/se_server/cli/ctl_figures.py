"""The figures of turns that `se-ctl` shows: the lines below the table of workers, and the slow turns part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from se_server.cli.ctl_tables import age, new_table, printable
from se_server.telemetry.families import Distribution

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

PARTS = ("socket", "wait", "handler", "provider", "thinking", "write")
TABLE_COLUMNS = 140
"""A table of turns with an id of usual length is that wide."""
COLUMN = 11


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


def turns_json(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that `turns --json` prints, the slowest turn first."""
    return {
        "turns": [
            {
                "conversation_id": turn["conversation"]["id"],
                "conversation_key": turn["conversation"]["key"],
                **{name: value for name, value in turn.items() if name not in ("conversation", "parts")},
                "parts": dict(zip(PARTS, turn["parts"], strict=True)),
            }
            for turn in answer["rows"]
        ]
    }


def turns_view(answer: Mapping[str, Any], width: int) -> Group:
    """Return the slow turns that `turns` shows, the slowest first.

    Args:
        width: columns of the terminal; a table of all figures needs `TABLE_COLUMNS`, and else a turn has two lines.
    """
    from rich.console import Group
    from rich.text import Text

    rows = answer["rows"]
    shown: RenderableType
    if width >= TABLE_COLUMNS:
        shown = _table_of(rows)
        lines = [
            f"the event loop was blocked by {printable(block)}"
            for block in sorted({turn["blocked_by"] for turn in rows if turn.get("blocked_by")})
        ]
    else:
        shown, lines = _pairs_of(rows), []
    note = "the parts of the time to first text; the slowest turns of the last hour" if rows else "no turns"
    return Group(shown, Text("\n".join([note, *lines])))


def _table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    numbers = ("turn", "first text", *PARTS, "ago")
    table = new_table("conversation", "turn", "first text", *PARTS, "outcome", "ago", numbers=numbers)
    for turn in rows:
        table.add_row(
            _name_of(turn),
            "-" if turn["event_id"] is None else str(turn["event_id"]),
            duration(turn["first_text_s"]),
            *(duration(part) for part in turn["parts"]),
            str(turn["outcome"]).replace("_", " "),
            age(turn["ago_s"]),
        )
    return table


def _pairs_of(rows: Sequence[Mapping[str, Any]]) -> Text:
    """Return two lines for each turn: the parts in columns, and the turn itself."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    if rows:
        text.append("".join(f"{head:>{COLUMN}}" for head in ("first text", *PARTS)) + "\n", style="bold")
    for turn in rows:
        text.append("".join(f"{duration(part):>{COLUMN}}" for part in (turn["first_text_s"], *turn["parts"])) + "\n")
        number = "a turn" if turn["event_id"] is None else f"turn {turn['event_id']}"
        outcome = str(turn["outcome"]).replace("_", " ")
        blocked = f", blocked by {printable(turn['blocked_by'])}" if turn.get("blocked_by") else ""
        about = f": {number}, {outcome}, {age(turn['ago_s'])} ago{blocked}\n"
        text.append("  ").append_text(_name_of(turn)).append(about, style="dim")
    return text


def _name_of(turn: Mapping[str, Any]) -> Text:
    from rich.text import Text

    name = turn["conversation"]["id"]
    return Text("(no init yet)", style="dim") if name is None else Text(printable(name))
