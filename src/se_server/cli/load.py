"""`se-bench load`: put load on a server, and report how it copes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from se_server.address import Address, AddressError, shown
from se_server.cli.chat import DEFAULT_URL
from se_server.cli.commands import SETTINGS, complain
from se_server.cli.grouped_help import GroupedCommand
from se_server.cli.load_screen import LoadScreen, show_report
from se_server.cli.request import SERVER_OPTIONS, ServerAccess, calls_a_server
from se_server.doctor.first_steps import FirstSteps
from se_server.doctor.results import Finding, State
from se_server.errors import ConfigError, LoadError
from se_server.load.fleet import Fleet, processes_for
from se_server.load.hdr import percentile_distribution
from se_server.load.plan import PROFILES, LoadPlan
from se_server.load.process import Connected, Run
from se_server.load.report import Report

EXIT_MISSED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
CONNECT_TIMEOUT_S = 30.0
LOOK_S = 0.25
SOAK_CALL_S = 120.0
MAX_DURATION_S = 7 * 86400.0
PORTS = 28_000  # ports of one address, by Linux' default: 32768 to 60999

_EPILOG = """Closed loop, the default: each conversation asks its next question when it has its answer, so a server that
slows down is asked less. Open loop, with --turns-per-s: turns come on schedule, and latency includes their wait.

Exit codes: 0 fine, 1 a threshold missed or no turn answered, 2 a wrong option or a server that cannot be reached."""

_HOW_MUCH, _TALK, _CALL, _RESULT = "How much", "How callers talk", "How they connect", "Result"
_GROUPS = {
    **dict.fromkeys(("conversations", "duration_s", "turns_per_s", "profile", "connect_per_s", "processes"), _HOW_MUCH),
    **dict.fromkeys(("think_s", "history", "max_history", "interruption_rate", "resend_after_s", "call_s"), _TALK),
    **dict.fromkeys((*SERVER_OPTIONS, "source_addresses"), _CALL),
    **dict.fromkeys(("max_p99_s", "max_errors", "hdr", "seed", "as_json", "help"), _RESULT),
}

_positive = click.FloatRange(0, min_open=True)


def _source_addresses(_context: click.Context, _option: click.Parameter, given: str | None) -> tuple[str, ...]:
    found = tuple(filter(None, (address.strip() for address in (given or "").split(","))))
    for address in found:
        try:
            family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((address, 0))
        except ValueError:
            raise click.BadParameter(f"{address!r} is not an IP address, such as 127.0.0.2") from None
        except OSError as error:
            raise click.BadParameter(f"{address} cannot be connected from: {error.strerror}") from None
    return found


def _writable(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file before the run that could not be written after it."""
    if path is not None:
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK):
            reason = "Permission denied" if place.exists() else "No such file or directory"
            raise click.BadParameter(f"cannot write {path}: {reason}")
    return path


@click.command(
    cls=GroupedCommand,
    groups=_GROUPS,
    context_settings=SETTINGS,
    epilog=_EPILOG,
)
@click.argument("url", default=DEFAULT_URL)
@click.option("-n", "--conversations", metavar="N", type=click.IntRange(1, 1_000_000), default=100, show_default=True,
              help="Conversations at once.")  # fmt: skip
@click.option("--duration-s", metavar="SECONDS", type=click.FloatRange(0, MAX_DURATION_S, min_open=True), default=30.0,
              show_default=True, help="Time in which turns are asked.")  # fmt: skip
@click.option("--turns-per-s", metavar="RATE", type=_positive, help="Open loop: turns of all conversations together.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="steady", show_default=True,
              help="Change of the load: ramp grows from nothing, spike quadruples for a fifth of the time, soak ends"
                   " conversations and begins new ones.")  # fmt: skip
@click.option("--think-s", metavar="SECONDS", type=click.FloatRange(0), default=0.0, show_default=True,
              help="Closed loop: mean pause between an answer and the next question.")  # fmt: skip
@click.option(
    "--history", metavar="N", type=click.IntRange(1), help="Messages of every transcript; by default it grows."
)
@click.option("--max-history", metavar="N", type=click.IntRange(2), default=200, show_default=True,
              help="Messages at which a growing history starts over.")  # fmt: skip
@click.option("--interruption-rate", metavar="SHARE", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of the answers that their user interrupts.")  # fmt: skip
@click.option("--resend-after-s", metavar="SECONDS", type=click.FloatRange(0), default=4.0, show_default=True,
              help="Ask again after this time without an answer, as the API does; 0 never.")  # fmt: skip
@click.option("--call-s", metavar="SECONDS", type=_positive,
              help=f"Mean length of a conversation before the next.  [default: {SOAK_CALL_S:g} in a soak]")  # fmt: skip
@click.option(
    "--connect-per-s", metavar="RATE", type=_positive, help="New conversations a second; by default 64 at a time."
)
@click.option("--processes", metavar="N", type=click.IntRange(1, 512),
              help="Generator processes.  [default: one for 50 conversations, on all cores but one]")  # fmt: skip
@click.option("--source-addresses", metavar="A,B,...", callback=_source_addresses,
              help="Local addresses to connect from: one has about 28,000 ports.")  # fmt: skip
@calls_a_server(CONNECT_TIMEOUT_S)
@click.option("--max-p99-s", metavar="SECONDS", type=_positive,
              help="Fail if the p99 to the first chunk is longer.")  # fmt: skip
@click.option("--max-errors", metavar="N", type=click.IntRange(0), default=0, show_default=True,
              help="Fail if there are more errors.")  # fmt: skip
@click.option("--hdr", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), callback=_writable,
              help="Write the percentiles of both times as HdrHistogram does, to FILE and to FILE.final.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random decisions.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
def command(
    url: str,
    duration_s: float,
    profile: str,
    call_s: float | None,
    connect_per_s: float | None,
    processes: int | None,
    access: ServerAccess,
    resend_after_s: float,
    max_p99_s: float | None,
    max_errors: int,
    hdr: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Hold many conversations with any Speech Engine server, and report how it copes.

    URL is the server's WebSocket, by default ws://127.0.0.1:3001/ws. Its agent answers, and its language model has to
    be paid for. Conversations grow as real ones do, in several scripts; transcripts without an answer are sent again.
    """
    try:
        address = Address.of(url)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    try:
        steps = first_steps(address, access)
        plan = LoadPlan(
            url=url,
            **plan_of(access),
            profile=PROFILES[profile],
            call_s=call_s or (SOAK_CALL_S if profile == "soak" else None),
            resend_after_s=resend_after_s or None,
            reconnects=True,
            **values,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if plan.turns_per_s is not None and plan.think_s:
        raise click.UsageError("--think-s is for the closed loop: with --turns-per-s turns come on schedule.")
    if plan.conversations > PORTS * max(1, len(plan.source_addresses)):
        need = -(-plan.conversations // PORTS)
        raise click.UsageError(
            f"{plan.conversations:,} conversations need {need} local addresses, about {PORTS:,} ports each: name them"
            f" with --source-addresses{' 127.0.0.2,127.0.0.3,...' if address.is_loopback else ''}."
        )
    console = Console(stderr=as_json, highlight=False, emoji=False, quiet=as_json and not sys.stderr.isatty())
    load = Load(
        plan, processes or processes_for(plan.conversations), duration_s, connect_per_s, access.connect_timeout_s
    )
    try:
        report = load.run(console, steps, max_p99_s=max_p99_s, max_errors=max_errors)
    except LoadError as error:
        complain(f"se-bench load: {error}")
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        click.echo("\nse-bench load: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    show_report(console, report)
    if as_json:
        click.echo(json.dumps({**report.to_dict(), "profile": profile}, ensure_ascii=False, indent=2))
    if hdr is not None:
        try:
            hdr.write_text(percentile_distribution(report.first_chunk))
            hdr.with_name(f"{hdr.name}.final").write_text(percentile_distribution(report.final))
        except OSError as error:
            click.echo(f"se-bench load: cannot write {hdr}: {error.strerror}", err=True)
            sys.exit(EXIT_USAGE)
    sys.exit(0 if report.is_good else EXIT_MISSED)


class Load:
    """One run, from the first handshake to the report.

    Args:
        plan: the plan of all processes.
        processes: the number of generator processes.
        duration_s: the time in which turns are asked, in seconds.
        connect_per_s: the rate of new conversations, per second; None for as many as possible.
        connect_timeout_s: the longest wait for a connection, in seconds.
    """

    def __init__(
        self,
        plan: LoadPlan,
        processes: int,
        duration_s: float,
        connect_per_s: float | None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._plan = plan
        self._processes = min(processes, plan.conversations)
        self._duration_s = duration_s
        self._connect_per_s = connect_per_s
        self._connect_timeout_s = connect_timeout_s
        self._was_stopped = False

    def run(self, console: Console, steps: FirstSteps, *, max_p99_s: float | None, max_errors: int) -> Report:
        """Put the load on the server.

        Raises:
            LoadError: no conversation could begin; the message gives the reason and a way out.
            KeyboardInterrupt: the user interrupted a second time, and wants no summary.
        """
        with (
            LoadScreen(console, shown(self._plan.url), self._about(), self._duration_s) as screen,
            Fleet(self._plan, self._processes) as fleet,
        ):
            connected = self._connect(fleet, screen)
            if self._was_stopped:
                raise KeyboardInterrupt
            if not connected.count:
                raise LoadError(self._explain(steps, connected))
            runs = self._hold(fleet, screen)
        return Report(
            self._plan,
            runs,
            connected,
            was_stopped=self._was_stopped,
            max_p99_s=max_p99_s,
            max_errors=max_errors,
        )

    def _connect(self, fleet: Fleet, screen: LoadScreen) -> Connected:
        share = self._plan.profile[0][1]
        wanted = max(1, round(self._plan.conversations * share))
        timeout_s = self._connect_timeout_s + wanted / (self._connect_per_s or math.inf)
        fleet.start_connect(timeout_s, self._connect_per_s, share)
        self._watch(fleet, lambda: screen.connecting(fleet.figures().up, wanted))
        return fleet.connected(timeout_s)

    def _hold(self, fleet: Fleet, screen: LoadScreen) -> list[Run]:
        began = time.monotonic()
        fleet.start_run(self._duration_s)
        self._watch(fleet, lambda: screen.running(time.monotonic() - began, fleet.figures()))
        return fleet.ran(self._duration_s)

    def _watch(self, fleet: Fleet, show: Callable[[], None]) -> None:
        """Show the progress until the step is over. The first Ctrl+C ends it early, the second stops at once."""
        while True:
            try:
                while not fleet.is_done(LOOK_S):
                    show()
                return
            except KeyboardInterrupt:
                if self._was_stopped:
                    raise
                self._was_stopped = True
                fleet.stop()

    def _about(self) -> str:
        plan = self._plan
        count = f"{plan.conversations:,} conversation{'' if plan.conversations == 1 else 's'}"
        if plan.turns_per_s is not None:
            loop = f"open loop, {plan.turns_per_s:g} turns a second, {count}"
        else:
            loop = f"closed loop, {count}" + (f" that think {plan.think_s:g} s" if plan.think_s else "")
        history = f"histories of {plan.history}" if plan.history else f"histories that grow to {plan.max_history}"
        parts = [loop, history]
        if plan.interruption_rate:
            parts.append(f"{plan.interruption_rate:.0%} of the answers interrupted")
        if plan.call_s:
            parts.append(f"conversations of {plan.call_s:g} s")
        parts.append(f"{self._processes} process{'' if self._processes == 1 else 'es'}, {self._duration_s:g} s")
        return "; ".join(parts)

    def _explain(self, steps: FirstSteps, connected: Connected) -> str:
        """Return the reason why no conversation could begin, as se-doctor finds it."""
        finding = asyncio.run(_first_fault(steps))
        if finding is None:
            why = connected.failures[0] if connected.failures else "stopped before the first conversation was open"
            return f"no conversation could begin: {why}"
        out = f"; {finding.way_out}" if finding.way_out else ""
        return f"no conversation could begin: {finding.why}{out}"


def first_steps(address: Address, access: ServerAccess) -> FirstSteps:
    """Return the checks on the way to a first conversation.

    Raises:
        ConfigError: the key cannot sign.
    """
    timeout_s = min(access.connect_timeout_s, FirstSteps.timeout_s)
    steps = FirstSteps(address, access.key, access.key_source, access.headers, timeout_s, access.tls)
    steps.check_key()
    return steps


def plan_of(access: ServerAccess) -> dict[str, Any]:
    """Return the values of a `LoadPlan` that concern the way to the server."""
    return {"api_key": access.key, "headers": tuple(access.headers.items()), **dataclasses.asdict(access.tls)}


async def _first_fault(steps: FirstSteps) -> Finding | None:
    async for finding in steps.walk():
        if finding.state is State.FAIL:
            return finding
    return None


if __name__ == "__main__":
    command(prog_name="se-bench load")
