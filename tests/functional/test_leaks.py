"""The check at the end of every functional test finds what a test leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from tests.functional.conversation.stage import serving
from tests.helpers import ANSWER_TIMEOUT_S
from tests.leaks import Before, Leak, no_tasks_left

SHORT_S = 0.05

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")


@contextmanager
def found(what: str, *, objects: bool = False) -> Iterator[None]:
    """Expect the check to find `what` after the block."""
    before = Before(objects=objects, grace_s=SHORT_S)
    yield
    with pytest.raises(Leak, match=what):
        before.check()


@needs_proc
def test_an_open_descriptor_is_found() -> None:
    with found(r"descriptor \d+, socket:"):
        left = socket.socket()
    left.close()


@needs_proc
def test_a_running_process_is_found() -> None:
    with found(r"process \d+, python"):
        left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left.communicate()


@needs_proc
def test_a_process_that_nobody_reaped_is_found() -> None:
    with found(r"process \d+"):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
    os.waitpid(pid, 0)


@needs_proc
def test_a_grandchild_without_its_parent_is_found() -> None:
    orphan = "import os, sys; print(os.fork() or input(), flush=True)"
    with found(r"process \d+"):
        parent = subprocess.Popen([sys.executable, "-c", orphan], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        parent.wait()
    parent.communicate()


async def test_a_task_that_goes_on_is_found() -> None:
    left = asyncio.create_task(asyncio.Event().wait(), name="endless")
    with pytest.raises(Leak, match="endless"):
        await no_tasks_left(SHORT_S)
    left.cancel()


async def test_a_task_that_ends_soon_is_waited_for() -> None:
    task = asyncio.create_task(asyncio.sleep(SHORT_S))
    await no_tasks_left()
    assert task.done()


async def test_a_live_connection_is_found() -> None:
    sessions: list[SpeechEngineSession] = []
    with found("Connection of se_server", objects=True):
        await converse(sessions)
    sessions.clear()


async def converse(sessions: list[SpeechEngineSession]) -> None:
    """Hold a conversation and keep its session."""

    def on_init(_conversation_id: str, session: SpeechEngineSession) -> None:
        sessions.append(session)

    async with serving("own", on_init=on_init) as stage, stage.call() as api:
        await api.init()
        await api.ping()


async def test_a_handler_is_gone_with_its_conversation() -> None:
    handlers: list[weakref.ref[Any]] = []

    def on_init(_conversation_id: str, session: SpeechEngineSession) -> None:
        @session.on("user_transcript")
        async def answer(transcript: Any) -> None:
            await session.send_response("hello")

        handlers.append(weakref.ref(answer))

    async with serving("own", on_init=on_init) as stage, stage.call() as api:
        await api.init()
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "hello")]
    del stage
    gc.collect()
    assert handlers[0]() is None


async def test_a_leaked_buffer_is_found() -> None:
    sessions: list[SpeechEngineSession] = []

    def on_init(_conversation_id: str, session: SpeechEngineSession) -> None:
        sessions.append(session)

    async with serving("own", on_init=on_init) as stage, stage.call() as api:
        await api.init()
        await api.ping()
        with found("1 buffers"):
            sessions[0]._outbox.send("said, and not flushed", b"1", False, True)
        sessions[0]._outbox.flush()


async def test_a_close_frees_the_buffers_of_unsent_text() -> None:
    before = Before()
    said = asyncio.Event()

    def on_init(_conversation_id: str, session: SpeechEngineSession) -> None:
        session._outbox.send("said, and not flushed", b"1", False, True)
        said.set()

    async with serving("own", on_init=on_init) as stage, stage.call() as api:
        await api.init()
        await asyncio.wait_for(said.wait(), ANSWER_TIMEOUT_S)
        await api.ws.close()
    before.check()
