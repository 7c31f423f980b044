"""`se-doctor`: examine a server by showing it the habits of the live API."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Sequence

import click
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from se_server import __version__
from se_server.address import Address, AddressError, shown
from se_server.cli.chat import DEFAULT_URL
from se_server.cli.commands import SETTINGS, PlainCommand
from se_server.cli.doctor_engine import EngineCheck, fetch_record, finding_json, show_record
from se_server.cli.request import ServerAccess, calls_a_server
from se_server.cli.scorecard import Scorecard
from se_server.demo import DEMO_API_KEY
from se_server.doctor.advice import first_step
from se_server.doctor.cases import Case, examine, examine_all
from se_server.doctor.catalogue import chosen
from se_server.doctor.first_steps import FirstSteps
from se_server.doctor.readings import READINGS
from se_server.doctor.record import Record
from se_server.doctor.results import Finding, Result, State, count
from se_server.doctor.target import REFERENCE_WORDS, Target, Words
from se_server.errors import ConfigError
from se_server.spelling import counted

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 3
QUIET_S, QUICK_QUIET_S, LONG_QUIET_S = 25.0, 3.0, 65.0

_EPILOG = """Exit codes: 0 nothing failed, 1 a case failed, 2 a wrong option, 3 no conversation was possible.

The reference agent misbehaves on request, so that every case can be decided:
se-server se_server.doctor.agent, and then se-doctor --agent reference."""


def _said(_context: click.Context, _option: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("it is empty: give the words of a user")
    return text


@click.command(cls=PlainCommand, context_settings=SETTINGS, epilog=_EPILOG)
@click.argument("url", default=DEFAULT_URL)
@calls_a_server()
@click.option("--agent", type=click.Choice(["any", "reference"]), default="any", show_default=True,
              help="Whether the server's agent is the reference agent.")  # fmt: skip
@click.option("--short", metavar="TEXT", default=Words.short, show_default=True, callback=_said,
              help="Question with a short answer.")  # fmt: skip
@click.option("--story", metavar="TEXT", default=Words.long, show_default=True, callback=_said,
              help="Request for an answer of some seconds, which is interrupted and repeated.")  # fmt: skip
@click.option("--reading", type=click.Choice(list(READINGS)),
              help="Hold all cases as if the API behaved so; by default only those that it may decide, once more.")  # fmt: skip  # noqa: E501
@click.option("--engine", "engine_id", metavar="ENGINE",
              help="Compare this stored engine (seng_...) with the server at URL, or at its ws_url.")  # fmt: skip
@click.option("--fix", is_flag=True, help="With --engine: ask about each safe change, and make it. Never moves ws_url.")
@click.option("--conversation", "conversation_id", metavar="CONVERSATION",
              help="Show the API's record of this conversation (conv_...), and the reason for its end.")  # fmt: skip
@click.option("--base-url", metavar="URL", help="Address of the REST API, for data residency.")
@click.option("--only", metavar="CASE", multiple=True, help="Run this case; may be repeated.")
@click.option("--list", "shows_list", is_flag=True, help="Show the cases, and run none.")
@click.option("--quick", is_flag=True, help="Keep the quiet conversation quiet for 3 s only.")
@click.option("--long", "is_long", is_flag=True, help="Keep it quiet for 65 s, and drop it after 60 s without traffic.")
@click.option("--at-once", metavar="N", type=click.IntRange(1, 50), default=6, show_default=True,
              help="Conversations held at the same time.")  # fmt: skip
@click.option("--reply-timeout-s", metavar="SECONDS", type=click.FloatRange(0, min_open=True), default=20.0,
              show_default=True, help="The longest silence before a complete answer.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random decisions.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
@click.pass_context
def main(
    context: click.Context,
    url: str,
    access: ServerAccess,
    agent: str,
    short: str,
    story: str,
    reading: str | None,
    engine_id: str | None,
    fix: bool,
    conversation_id: str | None,
    base_url: str | None,
    only: tuple[str, ...],
    shows_list: bool,
    quick: bool,
    is_long: bool,
    at_once: int,
    reply_timeout_s: float,
    seed: int,
    as_json: bool,
) -> None:
    """Examine any Speech Engine server: is it set up, and does it handle what the live API does?

    URL is the server's WebSocket, by default ws://127.0.0.1:3001/ws. Each case is a conversation of its own, held as
    the API holds it. The server's agent answers, and its language model has to be paid for: the largest number of turns
    is shown first.
    """
    if quick and is_long:
        raise click.UsageError("--quick and --long exclude each other.")
    if fix and engine_id is None:
        raise click.UsageError("--fix needs --engine ENGINE, the stored engine to change.")
    if fix and as_json:
        raise click.UsageError("--fix and --json exclude each other: each change is asked for.")
    try:
        cases = chosen(only)
    except KeyError as error:
        raise click.BadParameter(f"there is no case {error.args[0]!r}; see --list", param_hint="--only") from None
    if shows_list:
        _show_list(chosen(only))
        return
    key = access.key
    if (engine_id or conversation_id) and key == DEMO_API_KEY:
        raise click.UsageError("--engine and --conversation need an API key: set ELEVENLABS_API_KEY, or --api-key.")
    if conversation_id is not None:
        _show_conversation(fetch_record(conversation_id, key, base_url), as_json)
        return
    check = None
    if engine_id is not None:
        check = EngineCheck(engine_id, key, base_url)
        check.fetch()
        cases = cases if only else cases[:1]  # the first measures the first word
        if context.get_parameter_source("url") is ParameterSource.DEFAULT:
            url = check.ws_url or url
    words = dataclasses.replace(REFERENCE_WORDS if agent == "reference" else Words(), short=short, long=story)
    target = Target(
        url=url,
        api_key=key,
        headers=access.headers,
        words=words,
        quiet_s=QUICK_QUIET_S if quick else LONG_QUIET_S if is_long else QUIET_S,
        reply_timeout_s=reply_timeout_s,
        seed=seed,
        tls=access.tls,
        connect_timeout_s=access.connect_timeout_s,
        reading=None if reading is None else READINGS[reading],
    )
    try:
        steps = FirstSteps(
            Address.of(url), key, access.key_source, access.headers, access.connect_timeout_s, access.tls
        )
        steps.check_key()
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--api-key") from None
    console = Console(stderr=as_json, highlight=False, emoji=False, quiet=as_json and not sys.stderr.isatty())
    examination = Examination(target, steps, cases, at_once, agent, check)
    try:
        exit_code = asyncio.run(examination.run(console))
    except KeyboardInterrupt:
        click.echo("\nse-doctor: interrupted", err=True)
        exit_code = 130
    if as_json:
        click.echo(json.dumps(examination.report(), ensure_ascii=False, indent=2))
    if check is not None and fix:
        check.offer_changes()
    sys.exit(exit_code)


class Examination:
    """One examination and its results so far."""

    def __init__(
        self,
        target: Target,
        steps: FirstSteps,
        cases: Sequence[Case],
        at_once: int,
        agent: str,
        check: EngineCheck | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self.results: list[Result] = []
        self._target = target
        self._steps = steps
        self._cases = cases
        self._at_once = at_once
        self._agent = agent
        self._check = check
        self._began_at = time.time()
        self._took_s = 0.0

    async def run(self, console: Console) -> int:
        """Examine the server, show the results, and return the exit code."""
        began = time.monotonic()
        with Scorecard(console, len(self._cases)) as card:
            card.title(shown(self._target.url), self._about())
            async for finding in self._steps.walk():
                self.findings.append(finding)
                card.finding(finding)
            if any(finding.state is State.FAIL for finding in self.findings):
                await self._compare(card)
                return EXIT_UNREACHABLE
            first, *others = self._cases
            card.started(first)
            self._add(await examine(self._target, first), card)
            await self._compare(card)
            if self.results[0].state is State.FAIL and not self.results[0].heard:
                console.print(_nobody_answers())
                return EXIT_FAILED
            async for result in examine_all(self._target, others, at_once=self._at_once, on_start=card.started):
                self._add(result, card)
            self._took_s = time.monotonic() - began
        found = [*self.results, *(() if self._check is None else self._check.findings)]
        card.summary(found, self._took_s)
        return EXIT_FAILED if State.FAIL in count(found) else 0

    async def _compare(self, card: Scorecard) -> None:
        if self._check is not None:
            async for finding in self._check.compare(self._target, self._steps):
                card.finding(finding, f"Engine {self._check.engine_id}")

    def report(self) -> dict[str, object]:
        """Return all results as JSON-compatible values."""
        return {
            "url": shown(self._target.url),
            "se_server": __version__,
            "agent": self._agent,
            "began_at": round(self._began_at, 3),
            "took_s": round(self._took_s, 3),
            "set_up": [finding_json(finding) for finding in self.findings],
            **({} if self._check is None else {"engine": [finding_json(found) for found in self._check.findings]}),
            "cases": [
                {**dataclasses.asdict(result), "state": result.state.value, "duration_s": round(result.duration_s, 3)}
                for result in self.results
            ],
            "first": first_step([*(found for found in self.findings if found.state is State.FAIL), *self.results]),
            "counts": {state.value: number for state, number in count(self.results).items()},
        }

    def _add(self, result: Result, card: Scorecard) -> None:
        self.results.append(result)
        card.result(result)

    def _about(self) -> str:
        run = [case for case in self._cases if self._agent == "reference" or not case.needs_reference]
        turns = sum(case.turns for case in run)
        return (
            f"{counted(len(self._cases), 'case')}, {self._at_once} at a time. The agent answers up to"
            f" {counted(turns, 'turn')}, and its language model has to be paid for."
        )


def _show_conversation(record: Record, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(record), ensure_ascii=False, indent=2))
    else:
        show_record(record, Console(highlight=False, emoji=False))


def _nobody_answers() -> Text:
    return Text(
        "\nThe agent does not answer, so nothing else was tried. Does its on_transcript call send_response? Its log,"
        " and --debug of se-server, show what arrived. If the agent needs other words, set them with --short.",
        style="cyan",
    )


def _show_list(cases: Sequence[Case]) -> None:
    group = ""
    for case in cases:
        if case.group != group:
            group = case.group
            click.echo(f"{'' if case is cases[0] else chr(10)}{click.style(group, bold=True)}")
        needs = ", reference agent only" if case.needs_reference else ""
        click.echo(f"  {case.name:<20} {case.title} ({case.turns} turn{'' if case.turns == 1 else 's'}{needs})")


if __name__ == "__main__":
    main(prog_name="se-doctor")
