"""A caller for plain functions: its methods run the loop and return when they are done."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from se_server.simulator.calls import CallTurn
from se_server.simulator.judge import Reply, Summary
from se_server.testing.caller import INTERRUPTION, Caller
from se_server.testing.clock import close_loop, new_loop, virtual_time
from se_server.testing.stage import Stage

_T = TypeVar("_T")


class PlainCaller:
    """A `Caller` without `await`. Created by the fixture `plain_caller`.

    Time is virtual here, too. Between two calls it stands still, and so does the agent.

    Attributes:
        caller: the underlying caller.
    """

    def __init__(self, caller: Caller, stage: Stage) -> None:
        self.caller = caller
        self._stage = stage
        self._loop = new_loop()

    def say(self, text: str) -> Reply:
        """See `Caller.say`."""
        return self.run(self.caller.say(text))

    def utter(self, text: str) -> CallTurn:
        """See `Caller.utter`."""

        async def utter() -> CallTurn:
            await self.caller.open()
            return self.caller.utter(text)

        return self.run(utter())

    def interrupt(self, text: str = INTERRUPTION, *, after_chars: int = 0, after_s: float = 0.0) -> Reply:
        """Interrupt the answer to the last utterance, and return the answer to the interruption; see
        `Caller.interrupt`.
        """

        async def interrupt() -> Reply:
            return await self.caller.interrupt(text, after_chars=after_chars, after_s=after_s)

        return self.run(interrupt())

    def pause(self, seconds: float) -> None:
        """See `Caller.pause`."""
        self.run(self.caller.pause(seconds))

    def reply_to(self, turn: CallTurn) -> Reply:
        """See `Caller.reply_to`."""
        return self.run(self.caller.reply_to(turn))

    def hang_up(self) -> None:
        """See `Caller.hang_up`."""
        self.run(self.caller.hang_up())

    def drop(self) -> None:
        """See `Caller.drop`."""
        self.run(self.caller.drop())

    @property
    def errors(self) -> list[BaseException]:
        """See `Caller.errors`."""
        return self.caller.errors

    @property
    def heard(self) -> str:
        """See `Caller.heard`."""
        return self.caller.heard

    @property
    def turns(self) -> list[CallTurn]:
        """See `Caller.turns`."""
        return self.caller.turns

    def summary(self) -> Summary:
        """See `Caller.summary`."""
        return self.caller.summary()

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run any coroutine on the caller's loop in virtual time."""

        async def within() -> _T:
            with virtual_time(self._stage.time_budget_s):
                return await main

        return self._loop.run_until_complete(within())

    def finish(self) -> None:
        """End the conversation and close the loop."""
        try:
            self.run(self._stage.finish())
        finally:
            close_loop(self._loop)
