"""docs/deploy/logs.md shows the line of an ended conversation as a server writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.helpers import close_message, connect, init_message, running_server

PAGE = Path(__file__).resolve().parents[2] / "docs/deploy/logs.md"
ENDED = re.compile(r'\{[^{}]*"message":"conversation ended"[^{}]*\}')


async def test_the_page_shows_every_key_of_the_line() -> None:
    with running_server("--log-format", "json", workers=1) as server:
        async with connect(server.url) as ws:
            await ws.send(init_message("conv_1"))
            await ws.send(close_message())
            await ws.wait_closed()
        server.wait_for_output(ENDED.pattern)
    found = ENDED.search(PAGE.read_text(encoding="utf-8"))
    assert found
    line = next(line for line in server.output().splitlines() if ENDED.fullmatch(line))
    assert list(json.loads(found[0])) == list(json.loads(line))
