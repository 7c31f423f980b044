"""Failures of a provider reach `on_error` in its own words, refusals are spoken alone, and tool calls say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.llm.rows import Row, all_rows
from tests.llm.stage import FAILURE_TEXT, speak
from tests.providers import Failure, Provider, Script, Tool

STREAMS = [row for row in all_rows() if row.is_installed and row.api and row.is_stream and not row.is_refused]
# Packages that run tools themselves would ask the model again.
RUNS_TOOLS = ("LangGraph", "openai-agents", "pydantic-ai", "llama-index")
HAS_REFUSALS = [row for row in STREAMS if row.package == "openai"]
# Strings alone say nothing of their end, and Ollama has no filter.
WITHOUT_END = ("text_stream", "yields chunk", "a generator around", "chunk.text", "StrOutputParser", "llama", "Ollama")
FILTERED = [row for row in STREAMS if not any(words in row.name for words in WITHOUT_END)]
RESPONSES = [row for row in STREAMS if "responses" in row.passed or row.package == "openai-agents"]
# An error event that its models do not fit is a validation error of the package; it shortens the provider's words.
KEEPS_WORDS = ("mistralai",)
pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


def by(rows: list[Row]) -> pytest.MarkDecorator:
    """Return the mark that runs a test for each row."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


@by(STREAMS)
async def test_failure_inside_a_stream_is_an_error(row: Row, provider: Provider) -> None:
    script = Script(text=("One", " two", " three"), failure=Failure(2, message="It broke"))
    heard = await speak(row, provider, script, failure_text=FAILURE_TEXT)
    # Texts that grow come with a delay, and the last may be missing.
    assert heard.text == FAILURE_TEXT or (heard.text and "One two".startswith(heard.text)), heard
    assert [error for error in heard.errors if "It broke" in error or row.package in KEEPS_WORDS], heard
    assert (heard.finals, heard.late) == (1, [])


@by(STREAMS)
async def test_error_status_is_an_error(row: Row, provider: Provider) -> None:
    script = Script(status=400, message="No such model")
    heard = await speak(row, provider, script, failure_text=FAILURE_TEXT)
    assert heard.text == FAILURE_TEXT, heard
    assert [error for error in heard.errors if "No such model" in error or "400" in error], heard
    assert (heard.finals, heard.late) == (1, [])


@by([row for row in STREAMS if row.package not in RUNS_TOOLS])
async def test_answer_of_tool_calls_says_nothing(row: Row, provider: Provider) -> None:
    heard = await speak(row, provider, Script(text="", tools=(Tool(),)), failure_text=FAILURE_TEXT)
    assert (heard.text, heard.errors, heard.finals, heard.late) == ("", [], 1, []), heard


@by(HAS_REFUSALS)
async def test_refusal_is_spoken_if_nothing_else_is(row: Row, provider: Provider) -> None:
    if "yields chunk" in row.passed or "a generator around" in row.passed:
        pytest.skip("the row's own generator yields no refusals")
    script = Script(refusal="I will not do that.")
    heard = await speak(row, provider, script)
    assert (heard.text, heard.errors) == ("I will not do that.", []), heard
    silent = replace(row, options={**row.options, "speak_refusals": False})
    heard = await speak(silent, provider, script, failure_text=FAILURE_TEXT)
    assert heard.text == FAILURE_TEXT, heard
    assert [error for error in heard.errors if "I will not do that." in error], heard


@by(FILTERED)
async def test_filtered_answer_without_text_is_an_error(row: Row, provider: Provider) -> None:
    script = Script(text="", finish="content_filter")
    heard = await speak(row, provider, script, failure_text=FAILURE_TEXT)
    assert heard.text == FAILURE_TEXT, heard
    assert len(heard.errors) == 1, heard
    assert (heard.finals, heard.late) == (1, [])


@by(RESPONSES)
@pytest.mark.parametrize("kind", ["failed", "incomplete"])
@pytest.mark.parametrize("after_tokens", [0, 2])
async def test_responses_that_do_not_complete_are_errors(
    row: Row, kind: Any, after_tokens: int, provider: Provider
) -> None:
    script = Script(text=("One", " two", " three"), failure=Failure(after_tokens, kind=kind, message="It broke"))
    heard = await speak(row, provider, script, failure_text=FAILURE_TEXT)
    assert heard.text == ("One two" if after_tokens else FAILURE_TEXT), heard
    assert [error for error in heard.errors if "It broke" in error or "max_output_tokens" in error], heard
    assert (heard.finals, heard.late) == (1, [])
