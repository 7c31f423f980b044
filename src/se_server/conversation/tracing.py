"""Traces in a worker: each turn's handler runs in the context of the turn's span.

The span itself is exported by the observer, which reads its ids from the ring: here it has no time and no attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry.context import attach
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    StaticSampler,
    TraceIdRatioBased,
)
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
    from opentelemetry.trace import TraceState

    from se_server.protocol.turn import Turn

NAME = "invoke_agent"
_ATTRIBUTES = {"gen_ai.operation.name": NAME}
_SAMPLED, _DEFAULT = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


@dataclass(frozen=True)
class _Parent:
    """The parent of a conversation's turns.

    Attributes:
        context: what its upgrade request carries.
        trace_id: that of the parent; 0 for none, where each turn is a trace of its own.
        above: the parent's span, as the ring has it.
        bound: a trace is kept if the lower half of its id is less; None where the sampler is asked for each turn.
        state: the parent's, where the sampler is not asked.
    """

    context: Context
    trace_id: int
    above: str
    bound: int | None
    state: TraceState | None


class TurnTracer:
    """Begins the spans of turns.

    Args:
        sampler: decides which traces are kept. OpenTelemetry's own need not be asked for each turn.
        ids: makes the ids of traces and spans.
    """

    def __init__(self, sampler: Sampler, ids: IdGenerator) -> None:
        self._sampler = sampler
        self._ids = ids
        self._propagator = get_global_textmap()
        self._fields = tuple(self._propagator.fields)
        self._parents: WeakKeyDictionary[object, _Parent] = WeakKeyDictionary()

    def enter(self, turn: Turn, session: Any, now_s: float) -> None:
        """Make a span of a turn the current one, and note its ids in the ring; called in the task of its handler."""
        ring = turn.ring
        assert ring is not None
        parent = self._parents.get(session)
        if parent is None:
            parent = self._parents[session] = self._parent(session)
        trace_id = parent.trace_id or self._ids.generate_trace_id()
        state = parent.state
        if parent.bound is None:
            asked = self._sampler.should_sample(parent.context, trace_id, NAME, SpanKind.INTERNAL, _ATTRIBUTES, ())
            is_kept, state = asked.decision is Decision.RECORD_AND_SAMPLE, asked.trace_state
        else:
            is_kept = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < parent.bound
        span_id = self._ids.generate_span_id()
        own = SpanContext(trace_id, span_id, False, _SAMPLED if is_kept else _DEFAULT, state)
        attach(set_span_in_context(NonRecordingSpan(own), parent.context))
        both = (trace_id << 64 | span_id).to_bytes(24, "big").hex()
        ring.text(SPAN, turn.number, both + ("01" if is_kept else "00") + parent.above, now_s)

    def _parent(self, session: Any) -> _Parent:
        """Return the parent of a conversation's turns, such as the `traceparent` of its upgrade request."""
        context = set_span_in_context(INVALID_SPAN)
        headers = session.headers
        found = {name: headers.get(name) for name in self._fields}
        carrier = {name: value for name, value in found.items() if value is not None}
        if carrier:
            context = self._propagator.extract(carrier, context)
        span = get_current_span(context).get_span_context()
        if not span.is_valid:
            return _Parent(context, 0, "", bound_of(_root_of(self._sampler)), None)
        return _Parent(context, span.trace_id, f"{span.span_id:016x}", None, span.trace_state)


def _root_of(sampler: Sampler) -> Sampler:
    """Return the sampler of traces without a parent."""
    is_known = type(sampler) in (ParentBased, ParentBasedTraceIdRatio)
    return getattr(sampler, "_root", sampler) if is_known else sampler


def bound_of(sampler: Sampler) -> int | None:
    """Return the bound of the lower half of trace ids that a sampler keeps; None for a sampler that must be asked.

    Args:
        sampler: that of traces without a parent.
    """
    if type(sampler) is TraceIdRatioBased:
        bound: int = sampler.bound
        return bound
    if type(sampler) is StaticSampler:
        decision = sampler.should_sample(None, 1, NAME).decision
        every: int = TraceIdRatioBased.TRACE_ID_LIMIT + 1
        return every if decision is Decision.RECORD_AND_SAMPLE else 0
    return None
