"""The tables of `se-ctl`: workers and conversations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from se_server.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table

ROUTE_CHARACTERS = 32
WIDE = 200
SHOWN_ROUTES = 20
_STATES = {"ready": "green", "starting": "yellow", "draining": "magenta", "stopped": "dim"}
_DOING = {"speaking": "green", "thinking": "yellow", "waiting": "yellow", "ending": "magenta"}


def printable(text: object) -> str:
    """Return text without control characters for a terminal: the caller chooses the id of a conversation."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def age(seconds: float) -> str:
    """Return a short form of a time: `48s`, `12m 5s`, `3h 5m`, `2d 4h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def new_table(*columns: str, numbers: Sequence[str] = (), gap: int = 3) -> Table:
    """Make a table whose cells are not wrapped.

    Args:
        numbers: the columns that are aligned to the right.
        gap: blanks between columns, an odd number.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, gap // 2))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    return table


def status_view(answer: Mapping[str, Any], lines: Sequence[str] = ()) -> Group:
    """Return the table that `status` shows.

    Args:
        lines: are shown below it.
    """
    from rich.console import Group
    from rich.text import Text

    numbers = ("worker", "pid", "gen", "age", "conversations", "turns", "loop lag", "RSS")
    # All columns fit into 80, also with large numbers.
    table = new_table("worker", "pid", "gen", "state", *numbers[3:], numbers=numbers, gap=1)
    workers = answer["workers"]
    for row in workers:
        state, lag_s, silent_s = str(row["state"]), row["loop_lag_s"], row["silent_s"]
        shown_lag = f"{lag_s * 1000:.1f} ms"
        is_late = lag_s > 0.1
        if silent_s is not None and silent_s > 1.0:  # the loop has not run since, so its lag is at least that
            shown_lag, is_late = f"silent {silent_s:.1f} s", True
        rss = row["rss_bytes"]
        table.add_row(
            str(row["worker"]),
            str(row["pid"]),
            str(row["generation"]),
            Text(state, style=_STATES.get(state, "")),
            age(row["age_s"]),
            str(row["sessions"]),
            str(row["turns"]),
            Text(shown_lag, style="bold red" if is_late else ""),
            "?" if rss is None else f"{rss / 2**20:.0f} MiB",
        )
    routes = _shown_routes(answer.get("routes", ()))
    sessions, turns = (sum(row[name] for row in workers) for name in ("sessions", "turns"))
    rss_bytes = sum(row["rss_bytes"] or 0 for row in workers)
    totals = answer["totals"]
    elsewhere = answer["sessions_elsewhere"]
    beside = f" (and {elsewhere} on workers of the previous supervisor)" if elsewhere else ""
    summary = (
        f"{answer['state']}: {counted(sessions, 'conversation')}{beside}, {counted(turns, 'turn')} running,"
        f" {rss_bytes / 2**20:.0f} MiB\n"
        f"since the start {counted(totals['sessions_opened'], 'conversation')}"
        f" and {counted(totals['turns_started'], 'turn')},"
        f" {totals['turns_superseded']} interrupted, {totals['turns_failed']} failed"
    )
    zygotes = [_zygote_line(row) for row in answer.get("zygotes", ())]
    return Group(table, *routes, Text("\n".join((summary, *zygotes, *lines))))


def _zygote_line(row: Mapping[str, Any]) -> str:
    """Return the line about the process from which a generation's workers are forked."""
    if not row["pid"]:
        return f"zygote of generation {row['generation']}: down, another one starts soon"
    memory = "" if row["rss_bytes"] is None else f", {row['rss_bytes'] / 2**20:.0f} MiB"
    again = f", restarted {counted(row['restarts'], 'time')}" if row["restarts"] else ""
    return (
        f"zygote {row['pid']} of generation {row['generation']}: {row['state']} for {age(row['age_s'])}{memory}{again}"
    )


def _shown_routes(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Return the table of routes, of many the busiest ones, and a line about the others."""
    from rich.text import Text

    if not rows:
        return []
    busiest = rows if len(rows) <= SHOWN_ROUTES else sorted(rows, key=lambda row: -row["sessions"])[:SHOWN_ROUTES]
    left_out = len(rows) - len(busiest)
    more = [Text(f"and {left_out} routes with no more conversations: --json shows them\n")] if left_out else []
    return [_routes_table(busiest), *more]


def _routes_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    numbers = ("conversations", "limit", "begun", "turns", "failed")
    table = new_table("route", *numbers, numbers=numbers, gap=1)
    for row in rows:
        table.add_row(
            printable(row["route"])[:ROUTE_CHARACTERS],
            str(row["sessions"]),
            "-" if row["max_sessions"] is None else str(row["max_sessions"]),
            str(row["sessions_opened"]),
            str(row["turns_ended"]),
            str(row["turns_failed"]),
        )
    return table


def keys_view(answer: Mapping[str, Any]) -> Group:
    """Return the table that `keys` shows."""
    from rich.console import Group

    table = new_table("route", "keys", "source", gap=1)
    for row in answer["rows"]:
        shown = ", ".join(row["keys"]) or "?" if row["authenticates"] else "none: no token is asked for"
        route = "all paths" if row["route"] is None else printable(row["route"])[:ROUTE_CHARACTERS]
        table.add_row(route, shown, printable(row["source"]) if row["authenticates"] else "")
    return Group(table)


def conversations_json(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that `conversations --json` prints, the oldest conversation first."""
    return {
        "conversations": [
            {
                "conversation_id": name,
                "worker": worker,
                "pid": pid,
                "age_s": age_s,
                "state": doing,
                "turn_age_s": turn_age_s,
            }
            for worker, pid, (name, age_s, doing, turn_age_s) in sorted(answer["rows"], key=lambda row: -row[2][1])
        ],
        "left_out": answer["left_out"],
        "silent_workers": answer["silent"],
    }


def conversations_view(answer: Mapping[str, Any]) -> Group:
    """Return the table that `conversations` shows, the oldest conversation first."""
    from rich.console import Group
    from rich.text import Text

    table = new_table("conversation", "worker", "pid", "age", "turn", "for", numbers=("worker", "pid", "age", "for"))
    for worker, pid, (name, age_s, doing, since) in sorted(answer["rows"], key=lambda row: -row[2][1]):
        table.add_row(
            Text("(no init yet)", style="dim") if name is None else Text(printable(name)),
            str(worker),
            str(pid),
            age(age_s),
            Text(str(doing), style=_DOING.get(doing, "dim")),
            "" if since is None else f"{since:.1f} s",
        )
    notes = [counted(len(answer["rows"]), "conversation")]
    if answer["left_out"]:
        notes.append(f"{answer['left_out']} more are not listed")
    if answer["silent"]:
        notes.append(silence(answer))
    return Group(table, Text("; ".join(notes)))


def silence(answer: Mapping[str, Any]) -> str:
    """Return a sentence about workers that have not replied."""
    return f"no answer from worker {', '.join(map(str, answer['silent']))}: se-ctl stacks shows its stacks"


def console() -> Console:
    """Return what prints tables, with texts as they are: names in brackets are no markup."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False)


def width() -> int:
    """Return the columns of the terminal; lines for other programs are not wrapped."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else WIDE


def show(view: Group) -> None:
    """Print a table."""
    console().print(view)
