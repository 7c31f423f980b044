"""The sampling of turns: OpenTelemetry's own samplers are read once, and decide as if they were asked each time."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

from se_server.conversation.tracing import NAME, _root_of, bound_of


class Own(TraceIdRatioBased):
    """A sampler of a program: it may decide by something else."""


@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        DEFAULT_ON,
        DEFAULT_OFF,
        *map(TraceIdRatioBased, (0.0, 0.1, 1.0)),
        *map(ParentBasedTraceIdRatio, (0.0, 0.1, 1.0)),
        ParentBased(TraceIdRatioBased(0.5)),
    ],
)
def test_a_bound_decides_as_the_sampler_does(sampler: Sampler) -> None:
    bound = bound_of(_root_of(sampler))
    assert bound is not None
    dice = random.Random(7)
    for trace_id in [1, 2**64, 2**64 - 1, 2**128 - 1, *(dice.getrandbits(128) for _ in range(1000))]:
        decision = sampler.should_sample(None, trace_id, NAME).decision
        assert (trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < bound) is (decision is Decision.RECORD_AND_SAMPLE)


@pytest.mark.parametrize("sampler", [Own(0.5), ParentBased(Own(0.5))])
def test_other_samplers_are_asked(sampler: Sampler) -> None:
    assert bound_of(_root_of(sampler)) is None
