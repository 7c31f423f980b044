"""User code that raises to leave the process ends its turn, and neither the worker nor another conversation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.processes import call, write_agent
from tests.functional.test_child_processes import running_program
from tests.helpers import ServerProcess, running_server

AGENT = """
    import asyncio, os, sys
    VERSION = "one"
    ERRORS = []

    def leave(error):
        raise error

    async def leave_soon(error):
        await asyncio.sleep(0.01)
        raise error

    async def words(error):
        yield "so far "
        raise error

    async def group(error):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave_soon(error))

    def on_error(error, session):
        ERRORS.append(type(error).__name__)

    def on_init(conversation_id, session):
        if conversation_id == "conv_exit":
            sys.exit(2)

    async def on_transcript(transcript, session):
        where, _, name = transcript[-1].content.partition(" with ")
        loop = asyncio.get_running_loop()
        if name:
            error = {"exit": SystemExit(2), "interrupt": KeyboardInterrupt(), "close": GeneratorExit()}[name]
        if where == "handler":
            raise error
        elif where == "later":
            await leave_soon(error)
        elif where == "gather":
            await asyncio.gather(leave_soon(error), asyncio.sleep(1))
        elif where == "group":
            await group(error)
        elif where == "thread":
            await asyncio.to_thread(leave, error)
        elif where == "stream":
            await session.send_response(words(error))
        elif where == "callback":
            loop.call_soon(leave, error)
            await asyncio.sleep(0.05)
        elif where == "timer":
            loop.call_later(0.01, leave, error)
            await asyncio.sleep(0.05)
        elif where == "task":
            loop.create_task(leave_soon(error))
            await asyncio.sleep(0.05)
        elif where == "stop the loop":
            loop.stop()
            await asyncio.sleep(0.05)
        elif where == "cancel all tasks":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)
        if where == "errors":
            await session.send_response(",".join(ERRORS) or "none")
        else:
            await session.send_response(f"{VERSION} {os.getppid()} {os.getpid()}")
"""
NAMES = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "close": "GeneratorExit"}
FAILED = "Sorry."


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


@pytest.fixture
def server(app: Path) -> Iterator[ServerProcess]:
    with running_server("--failure-text", FAILED, app=app, workers=1) as server:
        yield server
        assert "bug of se-server" not in server.output()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["handler", "later", "gather", "group", "thread", "stream"])
async def test_a_turn_that_leaves_fails_alone(server: ServerProcess, where: str, name: str) -> None:
    if where == "group" and sys.version_info < (3, 11):
        pytest.skip("task groups are of Python 3.11")
    async with call(server) as caller, call(server) as other:
        before = await other.ask()
        spoken = await caller.hear(f"{where} with {name}")
        assert spoken.strip() == ("so far" if where == "stream" else FAILED)
        assert await other.ask() == before
        assert await caller.ask() == before
        # A task group puts an exception of this kind into a group.
        expected = "BaseExceptionGroup" if (where, name) == ("group", "close") else NAMES[name]
        assert expected in await caller.hear("errors")


@pytest.mark.parametrize("name", ["exit", "interrupt"])
@pytest.mark.parametrize("where", ["callback", "timer", "task", "gather"])
async def test_the_log_names_who_wants_to_leave(server: ServerProcess, where: str, name: str) -> None:
    async with call(server) as caller, call(server) as other:
        before = await other.ask()
        await caller.hear(f"{where} with {name}")
        server.wait_for_output(rf"{NAMES[name]}\(.*\) was raised at \S+agent\.py:\d+ in leave")
        assert await other.ask() == before


@pytest.mark.parametrize("where", ["stop the loop", "cancel all tasks"])
async def test_a_worker_outlives_what_user_code_stops(server: ServerProcess, where: str) -> None:
    async with call(server) as caller, call(server) as other:
        before = await other.ask()
        assert await caller.ask(where) == before
        server.wait_for_output("user code has (stopped the event loop|cancelled tasks)")
        assert await other.ask() == before
    server.stop()
    assert "se_server.server: stopped" in server.output()


async def test_an_event_handler_that_leaves_fails_alone(server: ServerProcess) -> None:
    async with call(server) as caller:
        await caller.websocket.send('{"type": "init", "conversation_id": "conv_exit"}')
        before = await caller.ask()
        assert "SystemExit" in await caller.hear("errors")
        assert await caller.ask() == before


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", NAMES)
async def test_programs_survive_handlers_that_leave(tmp_path: Path, app: Path, loop: str, name: str) -> None:
    with running_program(tmp_path, loop) as server:
        async with call(server) as caller, call(server) as other:
            before = await other.ask()
            await caller.hear(f"handler with {name}")
            assert await other.ask() == before
            assert await caller.ask() == before
