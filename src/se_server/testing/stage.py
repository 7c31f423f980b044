"""The agents and callers of one test, and its virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from se_server.simulator.habits import Habits
from se_server.testing.agent import Agent, conversation_ids
from se_server.testing.caller import DEFAULT_REPLY_TIMEOUT_S, Caller
from se_server.testing.clock import BUDGET_S, virtual_time
from se_server.testing.errors import with_own_frames


class MakeCaller(Protocol):
    """Create a caller; the type of the fixture `make_caller`.

    Args:
        app: the agent; by default that of the fixture or the marker `se_app`.
        headers: headers of the upgrade request, as the engine's `request_headers` set them.
        path: the path of the upgrade request, with its query: `/call?customer=7`.
        habits: the API's habits, such as `Habits.live()`; polite by default.
        conversation_id: the id to announce; by default `conv_1`, `conv_2` and so on.
        reply_timeout_s: the longest silence before a complete answer, in virtual seconds.
        **options: session options, as those of `se-server`: `handover_s=0.2`.
    """

    def __call__(
        self,
        app: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        habits: Habits | None = None,
        conversation_id: str | None = None,
        reply_timeout_s: float = DEFAULT_REPLY_TIMEOUT_S,
        **options: Any,
    ) -> Caller: ...


class Stage:
    """The agents and callers of one test.

    Attributes:
        callers: the callers created so far.
        problems: the errors that fail the test although its own lines passed; set when it is over.
    """

    def __init__(self, time_budget_s: float = BUDGET_S) -> None:
        self.time_budget_s = time_budget_s
        self.callers: list[Caller] = []
        self.problems: list[BaseException] = []
        self._agents: list[Agent] = []
        self._next_id = conversation_ids()

    def caller(
        self,
        app: object,
        *,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        habits: Habits | None = None,
        conversation_id: str | None = None,
        reply_timeout_s: float = DEFAULT_REPLY_TIMEOUT_S,
        **options: Any,
    ) -> Caller:
        """Create a caller of an agent; see `MakeCaller`.

        Raises:
            AppError: `app` is not an agent.
        """
        agent = next((agent for agent in self._agents if agent.source is app or agent.source == app), None)
        if agent is None:
            agent = Agent(app, self._next_id)
            self._agents.append(agent)
        caller = Caller(
            agent,
            headers=headers,
            path=path,
            habits=habits,
            conversation_id=conversation_id,
            reply_timeout_s=reply_timeout_s,
            options=options,
        )
        self.callers.append(caller)
        return caller

    async def play(self, test: Awaitable[None]) -> None:
        """Run a test in virtual time to its end, then let its callers hang up."""
        __tracebackhide__ = True
        with virtual_time(self.time_budget_s):
            try:
                await test
            finally:
                await self.finish()

    async def finish(self) -> None:
        """Hang up, stop the agents, and collect the problems."""
        try:
            for caller in self.callers:
                self.problems += await caller.finish()
        finally:
            for agent in self._agents:
                await agent.stop()


@asynccontextmanager
async def call(
    app: object,
    *,
    headers: Mapping[str, str] | None = None,
    path: str | None = None,
    habits: Habits | None = None,
    conversation_id: str | None = None,
    reply_timeout_s: float = DEFAULT_REPLY_TIMEOUT_S,
    time_budget_s: float = BUDGET_S,
    **options: Any,
) -> AsyncGenerator[Caller, None]:
    """Call an agent in virtual time, on the running loop; leaving the block hangs up.

    For `unittest` and for code without a test framework; pytest tests use the fixture `caller`.

    Args:
        app: the agent; see `MakeCaller` for it and for the other arguments.
        time_budget_s: the limit of virtual seconds for the block.

    Raises:
        AppError: `app` is not an agent.
        VirtualTimeError: see `virtual_time`.
        Exception: an unhandled exception of the agent's handlers, at the end of a block that did not raise.
    """
    stage = Stage()
    with virtual_time(time_budget_s):
        try:
            caller = stage.caller(
                app,
                headers=headers,
                path=path,
                habits=habits,
                conversation_id=conversation_id,
                reply_timeout_s=reply_timeout_s,
                **options,
            )
            await caller.open()
            yield caller
        finally:
            await stage.finish()
    if stage.problems:
        raise with_own_frames(stage.problems[0])
