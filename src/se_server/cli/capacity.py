"""`se-bench capacity`: find how many conversations one server carries, and the options that follow from it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

from se_server.address import Address, AddressError, shown
from se_server.cli.chat import DEFAULT_URL
from se_server.cli.commands import SETTINGS, PlainCommand
from se_server.cli.load import (
    CONNECT_TIMEOUT_S,
    EXIT_INTERRUPTED,
    EXIT_MISSED,
    EXIT_USAGE,
    PORTS,
    Load,
    first_steps,
    plan_of,
)
from se_server.cli.request import ServerAccess, calls_a_server
from se_server.errors import ConfigError, LoadError
from se_server.load.capacity import find_capacity
from se_server.load.fleet import processes_for
from se_server.load.plan import LoadPlan
from se_server.load.report import Report
from se_server.spelling import counted

HEADROOM = 0.9
"""Share of the capacity to serve at most: turns come in bursts, and other nodes fail."""
TARGET_LOAD = 0.7
"""Share of that limit at which to add a node, since a new one takes a minute."""

_EPILOG = """Measure one server alone, as large as each of your fleet, without a limit of conversations
(--max-sessions), and with your agent: its language model has to be paid for. Each step opens new conversations.

Exit codes: 0 found, 1 not even one conversation met the target, 2 a wrong option or a server that cannot be reached."""

_positive = click.FloatRange(0, min_open=True)


@click.command(
    cls=PlainCommand,
    context_settings=SETTINGS,
    epilog=_EPILOG,
)
@click.argument("url", default=DEFAULT_URL)
@click.option("--first-text", "target_s", metavar="SECONDS", type=_positive, default=1.5, show_default=True,
              help="The target: the time to the first text of an answer.")  # fmt: skip
@click.option("--percentile", metavar="PERCENT", type=click.FloatRange(50, 99.9), default=95.0, show_default=True,
              help="Share of the turns that have to meet it.")  # fmt: skip
@click.option("--step-s", metavar="SECONDS", type=_positive, default=30.0, show_default=True,
              help="Time for each number of conversations.")  # fmt: skip
@click.option("--think-s", metavar="SECONDS", type=click.FloatRange(0), default=8.0, show_default=True,
              help="Mean time between an answer and the next question.")  # fmt: skip
@click.option("--history", metavar="N", type=click.IntRange(1), default=20, show_default=True,
              help="Messages of every transcript.")  # fmt: skip
@click.option("--first", metavar="N", type=click.IntRange(1), default=16, show_default=True,
              help="Conversations to begin with.")  # fmt: skip
@click.option("--most", metavar="N", type=click.IntRange(1, PORTS), default=8192, show_default=True,
              help="Conversations to try at most.")  # fmt: skip
@click.option("--connect-per-s", metavar="RATE", type=_positive, default=200.0, show_default=True,
              help="New conversations a second at the beginning of a step.")  # fmt: skip
@click.option("--processes", metavar="N", type=click.IntRange(1, 512), help="Generator processes.")
@calls_a_server(CONNECT_TIMEOUT_S)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
def command(
    url: str,
    target_s: float,
    percentile: float,
    step_s: float,
    first: int,
    most: int,
    connect_per_s: float,
    processes: int | None,
    access: ServerAccess,
    as_json: bool,
    **values: Any,
) -> None:
    """Find how many conversations one server carries while its answers begin in time.

    URL is the server's WebSocket, by default ws://127.0.0.1:3001/ws.

    The load doubles until the target is missed, or a conversation fails or is refused; then the gap is halved.
    """
    if first > most:
        raise click.UsageError(f"--first {first} is more than --most {most}")
    try:
        steps = first_steps(Address.of(url), access)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    silent = Console(quiet=True)
    trials: list[dict[str, Any]] = []
    limited = False

    def holds(conversations: int) -> bool:
        nonlocal limited
        plan = LoadPlan(
            url=url,
            **plan_of(access),
            conversations=conversations,
            seed=len(trials),
            # The rest of a thought may be longer than the step: everybody speaks at least once.
            **{**values, "think_s": min(values["think_s"], step_s / 2)},
        )
        load = Load(plan, processes or processes_for(conversations), step_s, connect_per_s, access.connect_timeout_s)
        try:
            report = load.run(silent, steps, max_p99_s=None, max_errors=0)
        except LoadError:
            if not trials:
                raise
            trials.append(
                {"conversations": conversations, "first_text_s": None, "errors": conversations, "holds": False}
            )
            return False
        if report.was_stopped:
            raise KeyboardInterrupt
        limited = limited or report.was_the_limit
        trial = _judged(report, percentile, target_s)
        trials.append(trial)
        click.echo(_line(trial, percentile), err=as_json)
        return bool(trial["holds"])

    try:
        found = find_capacity(holds, first, most)
    except LoadError as error:
        click.echo(f"se-bench capacity: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        click.echo("\nse-bench capacity: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    _show(found, trials, url, percentile, target_s, most, limited=limited, as_json=as_json)
    sys.exit(0 if found else EXIT_MISSED)


def _judged(report: Report, percentile: float, target_s: float) -> dict[str, Any]:
    first_text_s = report.first_chunk.percentile(percentile)
    is_kept = report.turns > 0 and first_text_s <= target_s and report.error_count == 0
    return {
        "conversations": report.plan.conversations,
        "first_text_s": first_text_s,
        "turns": report.turns,
        "errors": report.error_count,
        "kinds": report.errors,
        "holds": is_kept,
    }


def _line(trial: dict[str, Any], percentile: float) -> str:
    errors = "".join(f", {count} {kind}" for kind, count in trial["kinds"].items())
    verdict = "holds" if trial["holds"] else "too many"
    count = counted(trial["conversations"], "conversation")
    return f"{count:>20}  p{percentile:g} {trial['first_text_s']:.3f} s{errors}  {verdict}"


def _show(
    found: int,
    trials: list[dict[str, Any]],
    url: str,
    percentile: float,
    target_s: float,
    most: int,
    *,
    limited: bool,
    as_json: bool,
) -> None:
    max_sessions = max(1, int(found * HEADROOM)) if found else 0
    remark = ""
    if limited:
        remark = (
            "The generator was at its limit in a step: the server may carry more. Use another machine or --processes."
        )
    elif found == most:
        remark = f"The search ended at --most {most:,}: the server may carry more."
    if as_json:
        result = {
            "url": shown(url),
            "capacity": found,
            "max_sessions": max_sessions,
            "target_load_ratio": TARGET_LOAD,
            "first_text_s": target_s,
            "percentile": percentile,
            "remark": remark,
            "trials": trials,
        }
        click.echo(json.dumps(result, indent=2))
        return
    if not found:
        click.echo(
            f"Not even one conversation has its first text within {target_s:g} s: it is the agent, not the load."
        )
        return
    click.echo(f"\n{counted(found, 'conversation')}, with {percentile:g} of 100 first texts within {target_s:g} s.")
    if remark:
        click.echo(remark)
    pod = int(max_sessions * TARGET_LOAD)
    click.echo(
        f"\nServe at most {HEADROOM:.0%} of them, and add a node at {TARGET_LOAD:.0%} of that:\n"
        f"  se-server  --max-sessions {max_sessions}     (or --capacity {max_sessions}, to refuse nobody)\n"
        f"  Helm       --set maxSessions={max_sessions} --set-string keda.targetLoadRatio={TARGET_LOAD}\n"
        f'  KEDA       threshold: "{TARGET_LOAD}" of se_server_load_ratio, {counted(pod, "conversation")} a pod'
    )


if __name__ == "__main__":
    command(prog_name="se-bench capacity")
