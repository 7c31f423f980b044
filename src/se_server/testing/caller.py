"""The caller of a test: one conversation with an agent in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from types import TracebackType
from typing import Any

from se_server.conversation.handlers import Handlers
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import CallerError, MessageError, PeerError
from se_server.simulator.calls import CallTurn
from se_server.simulator.connection import Ended, Link, LinkEvents
from se_server.simulator.conversation import Conversation
from se_server.simulator.habits import Habits
from se_server.simulator.judge import Reply, Summary, Verdict
from se_server.simulator.model import ApiModel
from se_server.simulator.recording import Recording
from se_server.testing.agent import Agent
from se_server.testing.clock import settled
from se_server.testing.errors import WatchedSession
from se_server.testing.link import InProcessLink, LinkEnd
from se_server.types import Counters, Headers, Request

INTERRUPTION = "Wait a moment."
DEFAULT_REPLY_TIMEOUT_S = 30.0


class Interruption(Awaitable[Reply]):
    """An interruption that was arranged by `Caller.interrupt`. Await it for the answer to the interruption.

    Raises:
        CallerError: (when awaited) the answer was complete before the interruption, or the conversation was over.
    """

    def __init__(self, task: asyncio.Task[Reply]) -> None:
        self._task = task
        self.was_awaited = False
        self.has_spoken = False

    def __await__(self) -> Generator[Any, None, Reply]:
        self.was_awaited = True
        return self._task.__await__()


class Caller:
    """One caller of the agent under test. Created by the fixtures `caller` and `make_caller`, and by `call`.

    All code between the API's messages and the agent's handlers is the server's own. The conversation begins with the
    first utterance, or with `open`; the caller hangs up when the test ends.

    Attributes:
        errors: the exceptions that the agent's handlers raised and no `on_error` handled, oldest first. Exceptions left
            in it at the end fail the test: remove an expected one with `error = caller.errors.pop()`.
        session: the server's side of the conversation, the newest after a reconnect; None before the beginning.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        habits: Habits | None = None,
        conversation_id: str | None = None,
        reply_timeout_s: float = DEFAULT_REPLY_TIMEOUT_S,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.errors: list[BaseException] = []
        self.session: SpeechEngineSession | None = None
        self._agent = agent
        self._headers = dict(headers or {})
        self._path = path
        self._options = dict(options or {})
        self._model = ApiModel(conversation_id or agent.next_conversation_id(), habits=habits)
        self._reply_timeout_s = reply_timeout_s
        self._opened: Conversation | None = None
        self._opening = asyncio.Lock()  # an interruption that was arranged first opens it as well
        self._settings: SessionSettings
        self._handlers: Handlers
        self._counters = Counters()
        self._recording: Recording | None = None
        self._runs: list[asyncio.Task[None]] = []
        self._interruptions: list[Interruption] = []

    # --- the conversation -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin the conversation, and run the agent's `on_startup` if it has not run. Idempotent.

        Raises:
            AppError: the object given as the agent is not one.
            VirtualTimeError: the running loop does not support virtual time.
        """
        self._agent.check_loop()
        async with self._opening:
            if self._opened is not None:
                return
            app, settings = await self._agent.start(self._options)
            self._settings = settings
            self._handlers = app.handlers
            self._path = self._path or app.options.get("path") or "/"
            conversation = Conversation(
                self._connect,
                self._model,
                reply_timeout_s=self._reply_timeout_s,
                recording=self._recording,
                name="the agent",
            )
            await conversation.open()
            self._opened = conversation

    def observe(self, counters: Counters, recording: Recording) -> None:
        """Count the sessions' turns, and record the messages, of a conversation that has not begun."""
        self._counters, self._recording = counters, recording

    async def say(self, text: str) -> Reply:
        """Say something and wait until its answer is complete or interrupted.

        An interruption that was arranged before takes place meanwhile; one that has already spoken is answered first.

        Raises:
            CallerError: the conversation is over, or the agent was silent for longer than the reply timeout.
        """
        await self.open()
        for interruption in self._interruptions:
            if interruption.has_spoken:
                await asyncio.wait([interruption._task])
        await self.conversation.quiet()
        return await self.reply_to(self.utter(text))

    def utter(self, text: str) -> CallTurn:
        """Say something without waiting for the answer. A current answer is interrupted at once.

        Returns:
            The turn, which fills as the answer arrives.

        Raises:
            CallerError: the conversation has not begun (`await caller.open()`), or is over.
        """
        return self.conversation.utter(text)

    def interrupt(self, text: str = INTERRUPTION, *, after_chars: int = 0, after_s: float = 0.0) -> Interruption:
        """Arrange that the user interrupts the current answer, or else the next one.

        Args:
            text: the user's words.
            after_chars: interrupt once this many characters of the answer were heard.
            after_s: interrupt no sooner than this many seconds after the question.

        Returns:
            An awaitable for the answer to these words; awaiting it is optional.
        """
        task = asyncio.get_running_loop().create_task(self._interrupt(text, after_chars, after_s))
        interruption = Interruption(task)
        self._interruptions.append(interruption)
        return interruption

    def change_habits(self, habits: Habits) -> None:
        """Let the API show other habits from the next utterance on."""
        self._model.habits = habits

    async def pause(self, seconds: float) -> None:
        """Stay silent for this many virtual seconds, while the agent continues."""
        await self.open()
        await asyncio.sleep(seconds)

    async def reply_to(self, turn: CallTurn) -> Reply:
        """Wait until the answer to an utterance is complete or interrupted, and return it."""
        await self.conversation.answered(turn)
        # A handler may send a second answer after the final of the first.
        await settled()
        return self.conversation.reply(turn)

    async def hang_up(self) -> None:
        """End the conversation as the API does, and wait until the agent's last handler has ended. Idempotent."""
        if self._opened is not None:
            await self._opened.close()
            await self._wait_runs()

    async def drop(self) -> None:
        """Drop the connection without a close handshake, and wait until the agent's last handler has ended."""
        self.conversation.drop()
        await self._wait_runs()

    async def wait_ended(self) -> Ended:
        """Wait until the agent ends the conversation, and return its end."""
        await self.open()
        ended = await self.conversation.wait_ended()
        await self._wait_runs()
        return ended

    # --- the answers heard ------------------------------------------------------------------------------------------

    @property
    def heard(self) -> str:
        """The part of the newest answer that the caller heard."""
        return "" if self._model.turn is None else self._model.turn.heard

    @property
    def turns(self) -> list[CallTurn]:
        """The utterances of the user with the answers heard, oldest first."""
        return self._model.turns

    @property
    def ended(self) -> Ended | None:
        """The end of the conversation; None while it goes on."""
        return None if self._opened is None else self._opened.ended

    def summary(self) -> Summary:
        """Judge the conversation so far: `assert caller.summary().is_ok`."""
        return self.conversation.summary()

    def verdict(self, turn: CallTurn) -> Verdict:
        """Judge one turn as it stands now."""
        return self.conversation.verdict(turn)

    # --- lifetime -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Caller:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.hang_up()

    @property
    def conversation_id(self) -> str:
        """The id that the API announces."""
        return self._model.conversation_id

    @property
    def agent_module(self) -> str:
        """The name of the module that answers; empty if that is unknown."""
        return self._agent.module

    @property
    def conversation(self) -> Conversation:
        """The API's side of the conversation.

        Raises:
            CallerError: it has not begun.
        """
        if self._opened is None:
            raise CallerError("the conversation has not begun: `await caller.open()`, or say something, first")
        return self._opened

    async def _connect(self, events: LinkEvents) -> Link:
        assert self._path is not None
        path, _, query = self._path.partition("?")
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        request = Request(path, query, Headers.of(pairs), "")
        is_watched = self._model.habits.idle_drop_s is not None
        link = InProcessLink(events, self._settings.ping_interval_s if is_watched else None)
        end = LinkEnd(link, request, self._settings)
        session = WatchedSession._over(end, request, self._handlers, self._settings, self._counters)
        assert isinstance(session, WatchedSession)
        session.unhandled = self.errors
        end.attach(session)
        self.session = session
        self._runs.append(asyncio.get_running_loop().create_task(session.run()))
        return link

    async def _wait_runs(self) -> None:
        await asyncio.gather(*self._runs)

    async def finish(self) -> list[BaseException]:
        """Hang up, and return the errors that fail the test, the most informative first."""
        problems: list[BaseException] = []
        for interruption in self._interruptions:
            task = interruption._task
            if not interruption.has_spoken and not task.done():
                problems.append(CallerError("caller.interrupt() found no answer to interrupt: say something after it"))
            elif task.done() and not interruption.was_awaited and (error := task.exception()) is not None:
                problems.append(error)
            task.cancel()
        await asyncio.gather(*(interruption._task for interruption in self._interruptions), return_exceptions=True)
        await self.hang_up()
        return [*(e for e in self.errors if not isinstance(e, MessageError | PeerError)), *problems]

    async def _interrupt(self, text: str, after_chars: int, after_s: float) -> Reply:
        await self.open()
        conversation = self.conversation
        turn = self._model.turn
        while turn is None or not turn.is_answering:
            await conversation.changed()
            turn = self._model.turn
            if not conversation.is_open:
                raise CallerError("the conversation was over before there was an answer to interrupt")
        until = turn.said_at + after_s
        while len(turn.heard) < after_chars or conversation.now < until:
            _check_answering(turn)
            await self._news(until - conversation.now)
        for interruption in self._interruptions:
            interruption.has_spoken |= interruption._task is asyncio.current_task()
        return await self.reply_to(conversation.utter(text))

    async def _news(self, at_most_s: float) -> None:
        # Await the future directly: each extra step of the loop between a chunk and this would let another chunk in.
        within_s = at_most_s if at_most_s > 0 else self._reply_timeout_s
        if not await self.conversation.changed(within_s) and at_most_s <= 0:
            raise CallerError(f"the answer went silent for {within_s:g} s before it could be interrupted")


def _check_answering(turn: CallTurn) -> None:
    if not turn.is_answering:
        how = "was interrupted by something else" if turn.final_at is None else "was complete"
        heard = f"{len(turn.heard)} characters were heard"
        raise CallerError(f"the answer {how} before it could be interrupted: {heard}")
