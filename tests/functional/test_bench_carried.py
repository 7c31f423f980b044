"""The benchmark of the conversations that one worker carries: it runs to its end, and its provider knows each API."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.load.llm_provider import LightProvider


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/chat/completions", {"model": "long-3"}),
        ("/anthropic/v1/messages", {"model": "long-3"}),
        ("/gemini/v1beta/models/long-3:streamGenerateContent?alt=sse", {"contents": []}),
    ],
)
async def test_the_provider_streams_in_each_apis_form(path: str, body: dict[str, Any]) -> None:
    provider = LightProvider()
    await provider.open()
    try:
        async with aiohttp.ClientSession() as session, session.post(provider.origin + path, json=body) as response:
            events = [await response.content.readline() for _ in range(40)]
            assert sum(b"morning" in event for event in events) >= 2
        assert set(provider.streams) == {3}
    finally:
        provider.close()


@pytest.mark.skipif(importlib.util.find_spec("elevenlabs") is None, reason="pip install elevenlabs")
@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="one core for the server, one for the load"
)
def test_both_servers_carry_the_conversations_asked_for() -> None:
    options = ["--path", "aiohttp response", "--first", "2", "--most", "2", "--window", "0.6"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.carried", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The delays are not judged here: that needs a calm machine. No core, and no token, was without work.
    rows = re.findall(
        r"^aiohttp response +(se-server|published SDK, uvloop) .*2: \d+ ms, server [1-9]\d?%", done.stdout, re.M
    )
    assert rows == ["se-server", "published SDK, uvloop"]
