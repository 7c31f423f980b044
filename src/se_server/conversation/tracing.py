"""Traces in a worker: each turn's handler runs in the context of the turn's span.

The span itself is exported by the observer, which reads its ids from the ring: here it has no time and no attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry.context import attach
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from se_server.telemetry._ring import SPAN

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

    from se_server.protocol.turn import Turn

NAME = "invoke_agent"
_ATTRIBUTES = {"gen_ai.operation.name": NAME}


class TurnTracer:
    """Begins the spans of turns.

    Args:
        sampler: decides which traces are kept; it is asked once a turn.
        ids: makes the ids of traces and spans.
    """

    def __init__(self, sampler: Sampler, ids: IdGenerator) -> None:
        self._sampler = sampler
        self._ids = ids
        self._propagator = get_global_textmap()
        self._fields = tuple(self._propagator.fields)
        self._parents: WeakKeyDictionary[object, tuple[Context, SpanContext]] = WeakKeyDictionary()

    def enter(self, turn: Turn, session: Any, now_s: float) -> None:
        """Make a span of a turn the current one, and note its ids in the ring; called in the task of its handler."""
        ring = turn.ring
        assert ring is not None
        found = self._parents.get(session)
        if found is None:
            found = self._parents[session] = self._parent(session)
        context, parent = found
        trace_id = parent.trace_id if parent.is_valid else self._ids.generate_trace_id()
        asked = self._sampler.should_sample(context, trace_id, NAME, SpanKind.INTERNAL, _ATTRIBUTES, ())
        flags = TraceFlags(TraceFlags.SAMPLED if asked.decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        span_id = self._ids.generate_span_id()
        own = SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=asked.trace_state)
        attach(set_span_in_context(NonRecordingSpan(own), context))
        above = f"{parent.span_id:016x}" if parent.is_valid else ""
        ring.text(SPAN, turn.number, f"{trace_id:032x}{span_id:016x}{flags:02x}{above}", now_s)

    def _parent(self, session: Any) -> tuple[Context, SpanContext]:
        """Return the context of a conversation's turns: what its upgrade request carries, such as its `traceparent`."""
        context = set_span_in_context(INVALID_SPAN)
        headers = session.headers
        found = {name: headers.get(name) for name in self._fields}
        carrier = {name: value for name, value in found.items() if value is not None}
        if carrier:
            context = self._propagator.extract(carrier, context)
        return context, get_current_span(context).get_span_context()
