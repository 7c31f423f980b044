"""Metrics for `prometheus_client`: a collector that reads the figures of a server when it is scraped.

The only importer of `prometheus_client`: import this module where metrics are asked for, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar as PrometheusExemplar

from se_server.telemetry.families import MAX_EXEMPLAR, PREFIX, Distribution, Exemplar, Family, Reading, families

_LABEL = "conversation_id"


class ServerCollector(Collector):
    """Collects the families of one server.

    Args:
        read: returns the figures of now.
        is_open_metrics: whether the metrics are written in OpenMetrics. There, a counter's family has the name without
            `_total`; one whose name is taken by another family is of the type `unknown`.
    """

    def __init__(self, read: Callable[[], Reading], *, is_open_metrics: bool = True) -> None:
        self._read = read
        self._is_open_metrics = is_open_metrics

    def collect(self) -> Iterator[Metric]:
        """Yield the families of now."""
        for family in families(self._read()):
            if family.kind == "unknown" and not self._is_open_metrics:
                family = replace(family, kind="counter", name=family.name.removesuffix("_total"))
            yield _metric_of(family)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the names are known when they are collected."""
        return iter(())


def registry_of(read: Callable[[], Reading], *, is_open_metrics: bool = True) -> CollectorRegistry:
    """Return a registry that has the metrics of one server and nothing else; for the arguments see the collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector(read, is_open_metrics=is_open_metrics))
    return registry


def _metric_of(family: Family) -> Metric:
    name = PREFIX + family.name
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
        for place, (labels, distribution) in enumerate(family.samples):
            assert isinstance(distribution, Distribution)
            exemplars = family.exemplars[place] if family.exemplars else ()
            histogram.add_metric(labels, _buckets(distribution, exemplars), distribution.total)
        return histogram
    metric: Any
    if family.kind == "unknown":
        metric = UnknownMetricFamily(name, family.help, labels=family.labels)
    elif family.kind == "counter":
        metric = CounterMetricFamily(name, family.help, labels=family.labels)
    else:
        metric = GaugeMetricFamily(name, family.help, labels=family.labels)
    for labels, value in family.samples:
        metric.add_metric(labels, value)
    assert isinstance(metric, Metric)
    return metric


def _text_of(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


def _buckets(distribution: Distribution, exemplars: Sequence[Exemplar | None]) -> list[Any]:
    buckets: list[Any] = []
    below = 0
    for place, count in enumerate(distribution.counts):
        below += count
        bound = distribution.bounds[place] if place < len(distribution.bounds) else math.inf
        exemplar = exemplars[place] if place < len(exemplars) else None
        if exemplar is None:
            buckets.append((_text_of(bound), below))
        else:
            shown = exemplar.conversation_id[: MAX_EXEMPLAR - len(_LABEL)]
            made = PrometheusExemplar({_LABEL: shown}, exemplar.value, exemplar.time_s)
            buckets.append((_text_of(bound), below, made))
    return buckets
