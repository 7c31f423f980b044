"""The user's side of the benchmark of tokens: each turn is answered with a stream of an LLM client.

`SE_BENCH_LLM` is JSON: `path`, a name of `bench.llm_paths`; `urls`, the base URLs by API; `options`, keywords of
`send_response`.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from typing import Any

from bench.llm_paths import PATHS

SETTINGS = json.loads(os.environ["SE_BENCH_LLM"])
OPTIONS: dict[str, Any] = SETTINGS["options"]

_stack = AsyncExitStack()
_ask: asyncio.Task[Any] | None = None


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer with a new stream; the client is made for the first turn."""
    global _ask
    if _ask is None:
        path = PATHS[SETTINGS["path"].removesuffix(" (published)")]
        make = path.published if path.published and SETTINGS["path"].endswith(" (published)") else path.make
        _ask = asyncio.ensure_future(make(_stack, SETTINGS["urls"].__getitem__))
    ask = await asyncio.shield(_ask)
    await session.send_response(await ask(transcript[-1].content), **OPTIONS)
