"""se-doctor's view of the API: a stored engine compared with its server, and the record of a conversation."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from se_server.address import Address, shown
from se_server.cli.screen import printable
from se_server.doctor.engine import EngineFinding, address_of, compare, header_texts, is_same_server
from se_server.doctor.first_steps import FirstSteps
from se_server.doctor.probe import resolve
from se_server.doctor.record import Record, read_record
from se_server.doctor.results import Finding, State, shown_s
from se_server.doctor.target import Target
from se_server.errors import ApiConnectionError, Forbidden, NotFound, SpeechEngineError, Unauthorized
from se_server.sdk.client import ElevenLabs

TIMEOUT_S = 20.0

T = TypeVar("T")


class EngineCheck:
    """One engine as the API has it.

    Args:
        engine_id: the engine.
        api_key: the API key.
        base_url: the API's address; None for the default.

    Attributes:
        findings: the comparisons so far.
    """

    def __init__(self, engine_id: str, api_key: str, base_url: str | None) -> None:
        self.engine_id = engine_id
        self.findings: list[Finding] = []
        self._api_key = api_key
        self._base_url = base_url
        self._engine: dict[str, Any] = {}

    def fetch(self) -> None:
        """Fetch the engine.

        Raises:
            click.ClickException: the API did not return it; the message says what to do.
        """
        with _client(self._api_key, self._base_url) as client:
            config = _asked(self.engine_id, client.speech_engine.get, self.engine_id).config
        self._engine = {} if config is None else config.model_dump()

    @property
    def ws_url(self) -> str:
        """The stored address of the server; empty without a usable one."""
        return "" if address_of(self._engine) is None else str(self._engine["speech_engine"]["ws_url"])

    async def compare(self, target: Target, steps: FirstSteps) -> AsyncIterator[Finding]:
        """Compare the engine with the server, and yield a finding for each setting."""
        for finding in compare(self._engine, requires=target.headers, first_word_s=target.first_word_s):
            yield self._add(finding)
            if finding.name == "ws_url" and (stored := address_of(self._engine)) is not None:
                async for more in self._reach(stored, steps):
                    yield self._add(more)

    async def _reach(self, stored: Address, steps: FirstSteps) -> AsyncIterator[Finding]:
        """Check that the stored address answers, and whether it is the server under examination."""
        if is_same_server(stored, steps.address):
            yield Finding("this server", State.PASS, "ws_url is the address under examination")
            return
        headers = {**header_texts(self._engine), **steps.headers}
        problem = None
        async for finding in dataclasses.replace(steps, address=stored, headers=headers).walk():
            if finding.state is State.FAIL:
                problem = finding
        if problem is not None:
            yield dataclasses.replace(
                problem, why=f"ws_url does not answer: {problem.name}: {problem.why}", name="reach"
            )
            return
        yield Finding("reach", State.PASS, "ws_url accepts a conversation with this key")
        if stored.target != steps.address.target:
            ends, given = shown(stored.target), shown(steps.address.target)
            why = f"ws_url ends in {ends}, the address under examination in {given}"
            yield Finding("this server", State.WARNING, why, "a proxy may rewrite the path; else correct one of them")
        elif stored.port == steps.address.port and await _have_one_host(stored, steps.address):
            yield Finding("this server", State.PASS, "ws_url leads to the same host, port and path")
        else:
            yield Finding(
                "this server",
                State.WARNING,
                f"ws_url leads to {stored.host}, and the examination to {steps.address.host}: they may be two servers",
                f"examine it as the API reaches it: se-doctor --engine {self.engine_id} without a URL",
            )

    def offer_changes(self) -> None:
        """Make each safe change that the user agrees to. The address of the server is never changed."""
        changes = [finding.change for finding in self.findings if isinstance(finding, EngineFinding) and finding.change]
        if not changes:
            click.echo("\nThere is nothing that --fix can change.")
        with _client(self._api_key, self._base_url) as client:
            for change in changes:
                if click.confirm(f"\nChange {change.what} of {self.engine_id}?", default=False):
                    _asked(self.engine_id, client.speech_engine.update, self.engine_id, **change.fields)
                    click.echo("Changed.")

    def _add(self, finding: Finding) -> Finding:
        self.findings.append(finding)
        return finding


def finding_json(finding: Finding) -> dict[str, object]:
    """Return a finding as JSON-compatible values."""
    fields = dataclasses.asdict(finding)
    fields.pop("change", None)
    return {**fields, "state": finding.state.value}


def fetch_record(conversation_id: str, api_key: str, base_url: str | None) -> Record:
    """Fetch the API's record of a conversation.

    Raises:
        click.ClickException: the API did not return it; the message says what to do.
    """
    with _client(api_key, base_url) as client:
        found = _asked(conversation_id, client.conversational_ai.conversations.get, conversation_id)
    return read_record(found)


def show_record(record: Record, console: Console) -> None:
    """Print a record: the transcript, then the end and its reason."""
    console.print(Text(record.conversation_id, style="bold").append(f"  {record.agent_id}", style="dim"))
    for spoken in record.spoken:
        at = "" if spoken.at_s is None else f"{spoken.at_s:.0f} s"
        cut = " (interrupted)" if spoken.is_interrupted else ""
        console.print(
            Text(f"  {at:>7}  {printable(spoken.role):<6} ", style="dim")
            .append(printable(spoken.text))
            .append(cut, style="dim"),
            soft_wrap=True,
        )
    lasted = "" if record.duration_s is None else f" after {shown_s(record.duration_s)}"
    console.print(Text(f"\nstatus   {printable(record.status) or 'unknown'}{lasted}"))
    console.print(Text(f"ended    {printable(record.reason) or 'the API gave no reason'}"))
    if record.error:
        console.print(Text(f"error    {printable(record.error)}", style="red"))
    for warning in record.warnings:
        console.print(Text(f"warning  {printable(warning)}", style="yellow"))
    if record.last_gap_s is not None:
        console.print(Text(f"The user's last words, {shown_s(record.last_gap_s)} before the end, have no answer."))
    if record.advice:
        console.print(Text(f"→ {record.advice}", style="cyan"), soft_wrap=True)


def _client(api_key: str, base_url: str | None) -> ElevenLabs:
    try:
        return ElevenLabs(api_key=api_key, base_url=base_url, timeout=TIMEOUT_S)
    except SpeechEngineError as error:
        raise click.UsageError(str(error).replace("base_url", "--base-url")) from None


def _asked(what: str, call: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Return the result of a call of the API about `what`.

    Raises:
        click.ClickException: it failed; the message says what to do.
    """
    try:
        return call(*arguments, **keywords)
    except (SpeechEngineError, ValueError, TypeError) as error:
        way_out = next((way_out for kind, way_out in _WAYS_OUT.items() if isinstance(error, kind)), "")
        raise click.ClickException(f"{what}: {error}{way_out and f'; {way_out}'}") from None


_WAYS_OUT: dict[type[Exception], str] = {
    Unauthorized: "use the API key of the workspace, and --base-url if it has data residency",
    Forbidden: "give the API key the permission to read Speech Engines, and for --fix to write them",
    NotFound: "it is not in this workspace: check the id, the key and --base-url",
    ApiConnectionError: "check the network, and --base-url",
}


async def _have_one_host(one: Address, other: Address) -> bool:
    try:
        found = await asyncio.gather(resolve(one), resolve(other))
    except (socket.gaierror, UnicodeError):
        return False
    return bool(set(found[0]) & set(found[1]))
