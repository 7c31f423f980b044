"""The corpus of the fuzz targets, without a fuzzer: every outcome equals the reference's."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.fuzz.run import TARGETS

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_outcome_is_the_references(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.{path.parent.name}").one_input(path.read_bytes())


def test_every_target_has_inputs() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
