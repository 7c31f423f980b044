"""Exports the spans of turns: the observer knows when each began and ended, and how.

The conventions are OpenTelemetry's for generative AI, of the version in `SCHEMA`.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from se_server.server.observer._timelines import PART_NAMES
from se_server.server.shared.tracing import FLUSH_S, make_exporters, make_resource
from se_server.telemetry.families import OUTCOMES

if TYPE_CHECKING:
    from se_server.server.observer._timelines import Conversation, Turn

logger = logging.getLogger("se_server.server.observer")

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
OPERATION = "invoke_agent"
PROVIDER = "elevenlabs"
SLOW_S = 4.0
"""A turn whose first text took longer is exported although its trace was not sampled."""
INTERRUPTED, SUPERSEDED, FAILED, TIMED_OUT = (
    OUTCOMES.index(name) for name in ("interrupted", "superseded", "failed", "timed_out")
)
EVENTS = {
    "filler sent": "filler",
    "failure text sent": "failure_text",
    "transcript again": "transcript_again",
    "late text dropped": "late_text",
    "event loop blocked": "event_loop_blocked",
    "stream opened": "stream_opened",
}
"""The events of spans by their names in the timeline; `first_text` and `interruption` come beside them."""
_MAX_EVENTS = 128


class TurnExporter:
    """Exports a span of each turn that was sampled, failed, was slow, or was interrupted.

    Args:
        app: the APP of the server; None for the demo agent.
    """

    def __init__(self, app: str | None) -> None:
        provider = TracerProvider(shutdown_on_exit=False)  # for its ids alone
        self._ids = provider.id_generator
        self._resource = make_resource()
        self._scope = InstrumentationScope("se-server", None, SCHEMA)
        self._processors = [BatchSpanProcessor(exporter) for exporter in make_exporters()]
        self._agent = _name_of(app)
        self._before: dict[tuple[int, int], SpanContext] = {}
        logger.info("exports the spans of turns")

    def take(self, turns: Sequence[tuple[Conversation, Turn]], ended: Sequence[Conversation]) -> None:
        """Export turns that have ended."""
        wall_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        for conversation, turn in turns:
            key = (conversation.pid, conversation.number)
            context, parent = self._contexts(conversation.spans.pop(turn[3], None))
            if context is None:
                continue
            if context.trace_flags.sampled or _is_remarkable(turn):
                span = self._span(conversation, turn, context, parent, self._before.get(key), wall_us)
                for processor in self._processors:
                    processor.on_end(span)
            self._before[key] = context
        for conversation in ended:
            self._before.pop((conversation.pid, conversation.number), None)

    def close(self) -> None:
        """Send what is left, in at most `FLUSH_S`."""
        threads = [
            threading.Thread(target=processor.shutdown, name="last spans", daemon=True)
            for processor in self._processors
        ]
        for thread in threads:
            thread.start()
        until_s = time.monotonic() + FLUSH_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _contexts(self, ids: str | None) -> tuple[SpanContext | None, SpanContext | None]:
        """Return the contexts of a span and of its parent, from the ids that the worker has noted."""
        if ids is None or len(ids) < 50:
            return None, None  # no handler has begun
        trace_id, span_id, flags = int(ids[:32], 16), int(ids[32:48], 16), TraceFlags(int(ids[48:50], 16))
        above = ids[50:66]
        parent = SpanContext(trace_id, int(above, 16), is_remote=True, trace_flags=flags) if above else None
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags), parent

    def _span(
        self,
        conversation: Conversation,
        turn: Turn,
        context: SpanContext,
        parent: SpanContext | None,
        before: SpanContext | None,
        wall_us: int,
    ) -> ReadableSpan:
        event_id, outcome, arrived_us, ended_us, first_s, parts, texts, _, _ = turn
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.agent.name": self._agent,
            "se_server.turn.outcome": OUTCOMES[outcome],
            "se_server.turn.texts": texts,
        }
        if conversation.name is not None:
            attributes["gen_ai.conversation.id"] = conversation.name
        if event_id is not None:
            attributes["se_server.turn.event_id"] = event_id
        if first_s is not None:
            attributes["se_server.turn.first_text_s"] = first_s
        for name, part_s in zip(PART_NAMES, parts or (), strict=False):
            attributes[f"se_server.turn.{name}_s"] = part_s
        if not context.trace_flags.sampled:
            attributes["se_server.sampled_late"] = True
            sampled = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)  # else no processor would take it
            context = SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=sampled)
        status = Status(StatusCode.UNSET)
        happened = list(itertools.islice(_events(conversation, turn), _MAX_EVENTS))
        if outcome in (FAILED, TIMED_OUT):
            errors = [value for _, name, value in happened if name == "error"]
            attributes["error.type"] = str(errors[-1]) if errors else OUTCOMES[outcome]
            status = Status(StatusCode.ERROR, OUTCOMES[outcome].replace("_", " "))
        links = [] if before is None else [Link(before, {"se_server.link": "turn before"})]
        return ReadableSpan(
            f"{OPERATION} {self._agent}",
            context,
            parent,
            self._resource,
            attributes,
            [Event(name, _attributes(value), (when_us + wall_us) * 1000) for when_us, name, value in happened],
            links,
            SpanKind.INTERNAL,
            None,
            status,
            (arrived_us + wall_us) * 1000,
            (ended_us + wall_us) * 1000,
            self._scope,
        )


def _is_remarkable(turn: Turn) -> bool:
    _, outcome, arrived_us, ended_us, first_s, _, _, _, _ = turn
    waited_s = (ended_us - arrived_us) / 1e6 if first_s is None else first_s
    return outcome in (FAILED, TIMED_OUT, INTERRUPTED, SUPERSEDED) or waited_s > SLOW_S


def _events(conversation: Conversation, turn: Turn) -> Iterator[tuple[int, str, int | str]]:
    """Yield what happened in a turn: microseconds, name and value."""
    _, outcome, arrived_us, ended_us, first_s, _, _, _, _ = turn
    first_us = None if first_s is None else arrived_us + round(first_s * 1e6)
    if first_us is not None:
        yield first_us, "first_text", 0
    for when_us, name, value in conversation.events():
        if arrived_us <= when_us <= ended_us and (name in EVENTS or name == "error"):
            yield when_us, EVENTS.get(name, name), value
    if outcome in (INTERRUPTED, SUPERSEDED):
        yield ended_us, "interruption", 0


def _attributes(value: int | str) -> dict[str, str]:
    return {"se_server.detail": value} if isinstance(value, str) and value else {}


def _name_of(app: str | None) -> str:
    """Return the agent's name: that of its module, without directories."""
    if app is None:
        return "demo"
    file, dot, rest = app.partition(".py")
    return PurePath(file).name + rest if dot else app
