"""Families of metrics: valid OpenMetrics, with each figure under its name."""

from __future__ import annotations

import math

import pytest
from prometheus_client.exposition import generate_latest as classic
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from se_server.telemetry._meters import Meters
from se_server.telemetry.collector import registry_of
from se_server.telemetry.counters import COUNTERS
from se_server.telemetry.families import MAX_EXEMPLAR, Exemplar, Reading, WorkerFigures, families

WORKER = WorkerFigures(0, 1, 77, 1, "ready", 5.0, 2, 2, 1, 0.001, 0.02, 1 << 20, 0)


def reading(meters: Meters, **values: object) -> Reading:
    given: dict[str, object] = {
        "version": "1.2.3",
        "started_at_s": 1000.5,
        "counters": dict.fromkeys(COUNTERS, 0),
        "cells": meters.cells(),
        "conversations": 2,
        **values,
    }
    return Reading(**given)  # type: ignore[arg-type]


def scraped(read: Reading) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all samples of a scrape in OpenMetrics, by name and labels."""
    text = generate_latest(registry_of(lambda: read)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value_of(read: Reading, name: str, **labels: str) -> float:
    return scraped(read)["se_server_" + name, frozenset(labels.items())]


def test_figures_stand_under_their_names() -> None:
    meters = Meters()
    meters.count("conversations", 3)
    meters.count("turns", 2)
    meters.count("interrupted")
    meters.closed("peer", 1000)
    meters.refused("token refused")
    meters.record("first_text", 0.3)
    found = reading(meters, capacity=8, workers=[WORKER], ring_overflows=4)
    assert value_of(found, "conversations", state="answering") == 1
    assert value_of(found, "conversations", state="listening") == 1
    assert value_of(found, "conversations_total") == 3
    assert value_of(found, "conversations_closed_total", cause="peer", code="1000") == 1
    assert value_of(found, "turns_total", outcome="interrupted") == 1
    assert value_of(found, "refusals_total", reason="token_refused") == 1
    assert value_of(found, "turn_first_text_seconds_bucket", source="handler", le="0.16") == 0
    assert value_of(found, "turn_first_text_seconds_bucket", source="handler", le="0.32") == 1
    assert value_of(found, "turn_first_text_seconds_count", source="handler") == 1
    assert value_of(found, "turn_first_text_seconds_sum", source="handler") == pytest.approx(0.3)
    assert value_of(found, "load_ratio") == 0.25
    assert value_of(found, "worker_rss_bytes", worker="0") == 1 << 20
    assert value_of(found, "start_time_seconds") == 1000.5
    assert value_of(found, "ring_overflows_total") == 4


def test_a_server_without_limit_has_no_load_ratio() -> None:
    names = {name for name, _ in scraped(reading(Meters()))}
    assert "se_server_load_ratio" not in names
    assert "se_server_capacity" not in names


def test_classic_and_openmetrics_have_the_same_samples() -> None:
    meters = Meters()
    meters.record("conversation", 7.0)
    found = reading(meters, workers=[WORKER])
    text = classic(registry_of(lambda: found)).decode()
    names = {sample.name for family in classic_families(text) for sample in family.samples}
    assert names == {name for name, _ in scraped(found)}


def test_exemplars_name_a_conversation_within_the_limit() -> None:
    meters = Meters()
    meters.record("first_text", 0.3)
    exemplars = [None] * 5 + [Exemplar("conv_" + "x" * 200, 0.3, 5.0)]
    text = generate_latest(registry_of(lambda: reading(meters, exemplars={"first_text": exemplars}))).decode()
    found = [
        sample.exemplar
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    (exemplar,) = found
    assert exemplar.value == 0.3
    assert sum(len(name) + len(value) for name, value in exemplar.labels.items()) == MAX_EXEMPLAR


def test_a_loop_that_stands_still_shows_its_silence() -> None:
    silent = WorkerFigures(3, 1, 77, 1, "ready", 5.0, 2, 2, 1, 0.0, 2.1, None, 0)
    assert value_of(reading(Meters(), workers=[silent]), "loop_lag_seconds", worker="3") == pytest.approx(2.0)


def test_every_family_has_help_and_a_unique_name() -> None:
    found = list(families(reading(Meters(), capacity=1, workers=[WORKER], ring_overflows=0)))
    assert len({family.name for family in found}) == len(found)
    assert all(family.help.endswith(".") for family in found if family.name != "build_info")
    assert all(not math.isnan(value) for family in found for _, value in family.samples if isinstance(value, int))
