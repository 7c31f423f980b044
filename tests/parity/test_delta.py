"""Our extractor finds the same text as the published SDK's."""

from __future__ import annotations

from typing import Any

import pytest
from elevenlabs.speech_engine import session as published
from hypothesis import given, settings

from se_server.streams._delta import text_of
from tests.property.test_delta import ANYTHING, EVENTS
from tests.unit.streams.test_delta import DICTS, Extras, as_objects


@pytest.mark.parametrize(("event", "text"), DICTS)
def test_documented_events(event: Any, text: str | None) -> None:
    for form in (event, as_objects(event), Extras(**event)):
        assert published._extract_text(form) == text_of(form) == text


@settings(max_examples=1000)
@given(EVENTS | ANYTHING)
def test_invented_events(event: Any) -> None:
    # Ours reads more shapes than the published one; the text is the same wherever that one finds any.
    expected = published._extract_text(event)
    assert expected is None or text_of(event) == expected
