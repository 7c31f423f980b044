"""The agent behind the balancers: says who answers and what arrived, or as much as it is asked to."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

SERVER = os.environ.get("BALANCED_SERVER", "")


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Do what the user's first word says."""
    command, _, rest = transcript[-1].content.partition(" ")
    if command == "repeat":
        await session.send_response(rest)
    elif command == "count":
        await session.send_response(count(int(rest)))
    else:
        arrived = {
            "server": SERVER,
            "pid": os.getpid(),
            "path": session.path,
            "query": session.query,
            "remote": session.remote,
            "headers": {name.lower(): value for name, value in session.headers.items()},
        }
        await session.send_response(json.dumps(arrived))


async def count(chunks: int) -> AsyncIterator[str]:
    """Give numbers, a chunk each."""
    for number in range(chunks):
        yield f"{number} "
