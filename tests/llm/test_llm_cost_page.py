"""The functions of docs/llm-cost.md, as they stand there, with the fake provider's address in place of the real one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.llm.rows import MESSAGES, QUESTION, TEXT, Case, Row, installed
from tests.llm.stage import FAILURE_TEXT, speak
from tests.providers import Provider, Script

PAGE = Path(__file__).parents[2] / "docs" / "llm-cost.md"
pytestmark = pytest.mark.skipif(not installed("aiohttp"), reason="needs aiohttp")

HOSTS = {
    "openai": ("https://api.openai.com/v1", "openai"),
    "anthropic": ("https://api.anthropic.com/v1", "anthropic"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta", "gemini"),
}


def function_of(name: str, case: Case) -> Any:
    """Return a function of the page, which asks the fake provider."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "gemini(" in block
    )
    for host, api in HOSTS.values():
        base = case.url(api).removesuffix("/v1").removesuffix("/v1beta")
        code = code.replace(host, f"{base}/{host.rpartition('/')[2]}")
    names: dict[str, Any] = {}
    exec(code, names)
    return names[name]


@pytest.mark.parametrize("name", HOSTS)
async def test_examples_speak_the_answer(name: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{key}_API_KEY", "none")

    async def make(case: Case) -> Any:
        import aiohttp

        session = await case.client(aiohttp.ClientSession())
        return await function_of(name, case)(session, QUESTION if name == "gemini" else MESSAGES)

    row = Row("aiohttp", name, make, "aiohttp", HOSTS[name][1])
    heard = await speak(row, provider)
    assert (heard.text, heard.errors, heard.finals) == (TEXT, [], 1), heard
    heard = await speak(row, provider, Script(status=400, message="No such model"), failure_text=FAILURE_TEXT)
    assert heard.text == FAILURE_TEXT
    assert "No such model" in heard.errors[0]
