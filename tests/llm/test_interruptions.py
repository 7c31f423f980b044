"""Conversations that are interrupted again and again leave the providers nothing to do, and nothing behind."""

from __future__ import annotations

import pytest

from bench.interruptions import installed, run
from tests.providers import provider_process

# Tokens under way when the interruption is sent; a busy machine makes it more than one.
MAX_LATE = 5


@pytest.mark.filterwarnings("ignore")  # the packages' own
async def test_interrupted_conversations_leave_nothing_behind() -> None:
    ways = installed()
    with provider_process() as provider:
        storm = await run(provider, ways, conversations=len(ways), interruptions=2, at_once=len(ways))
    assert storm.errors == []
    assert storm.left == []
    assert sum(storm.interruptions.values()) == 2 * len(ways)
    assert sum(storm.late.values()) <= MAX_LATE * 2 * len(ways)
