"""Conversations through a balancer."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

from se_server.simulator.caller import Caller
from tests.balancers.balancers import Balancer
from tests.helpers import TEST_API_KEY


async def arrived(caller: Caller) -> dict[str, Any]:
    """Ask the agent who it is and what reached it."""
    found: dict[str, Any] = json.loads((await caller.say("who")).text)
    return found


async def call_once(balancer: Balancer) -> dict[str, Any]:
    """Hold a short conversation and return what the agent said arrived."""
    async with Caller.connect(balancer.url(), api_key=TEST_API_KEY) as caller:
        return await arrived(caller)


async def call_on(stack: AsyncExitStack, balancer: Balancer, **wanted: Any) -> tuple[Caller, dict[str, Any]]:
    """Make calls until one is with the wanted `server` or `pid`, and keep that one."""
    for _ in range(100):
        caller = await stack.enter_async_context(Caller.connect(balancer.url(), api_key=TEST_API_KEY))
        request = await arrived(caller)
        if all(request[name] == value for name, value in wanted.items()):
            return caller, request
    raise AssertionError(f"100 calls, and none with {wanted}")
