"""The tasks of turns, next to asyncio's own: what user code can see of the two must be the same."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if sys.version_info[:2] != (3, 11):
    pytest.skip("with other versions of Python they are asyncio's own", allow_module_level=True)

import anyio
import anyio.to_thread
import uvloop

from se_server.conversation._batch import batch_of
from se_server.conversation._tasks import EagerTask, start

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]

Work = Coroutine[Any, Any, Any]


def begin_later(coroutine: Work) -> asyncio.Task[Any]:
    """Start a coroutine as a turn is started, in the loop's next step."""
    job = SimpleNamespace(task=None)
    loop = asyncio.get_running_loop()
    start(coroutine, loop, batch_of(loop), "a turn", job, copy_context())
    return job.task


async def begin(coroutine: Work) -> asyncio.Task[Any]:
    """Start a coroutine as a turn is started, and let it take its first step."""
    task = begin_later(coroutine)
    await asyncio.sleep(0)
    return task


async def begin_plain(coroutine: Work) -> asyncio.Task[Any]:
    """Start a coroutine as asyncio does, and let it take its first step."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


def run(main: Callable[[], Work], new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> Any:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


# --- the same steps ---


class Odd:
    """An awaitable that no task can wait for."""

    def __init__(self, yielded: object) -> None:
        self.yielded = yielded

    def __await__(self) -> Generator[Any, None, None]:
        yield self.yielded


def a_generator() -> Generator[None, None, None]:
    yield


STEPS = (
    *("pause", "value", "error", "cancelled", "pending", "odd", "generator", "bare future", "itself", "other task"),
    *("cancel itself", "cancel itself and pause", "timeout"),
)
DEEDS = ("step", "cancel", "cancel twice", "uncancel", "resolve")
ENDS = ("return", "raise", "cancelled", "cancel itself and return")


async def _play(steps: list[tuple[str, bool]], end: str, told: list[str], pending: list[asyncio.Future[str]]) -> str:
    """Do what a handler may do, and tell what came of it."""
    loop = asyncio.get_running_loop()
    itself = asyncio.current_task()
    assert itself is not None
    for step, swallows in steps:
        future = loop.create_future()
        try:
            if step == "pause":
                await asyncio.sleep(0)
            elif step == "value":
                loop.call_soon(future.set_result, "value")
                told.append(await future)
            elif step == "error":
                loop.call_soon(future.set_exception, ValueError("no"))
                await future
            elif step == "cancelled":
                loop.call_soon(future.cancel, "why")
                await future
            elif step == "pending":
                pending.append(future)
                told.append(await future)
            elif step == "odd":
                await Odd(5)
            elif step == "generator":
                await Odd(a_generator())
            elif step == "bare future":
                await Odd(future)
            elif step == "itself":
                await itself
            elif step == "other task":
                told.append(await asyncio.create_task(asyncio.sleep(0, "other")))
            elif step == "timeout":
                async with asyncio.timeout(0):
                    await future
            else:
                told.append(str(itself.cancel("by itself")))
                if step == "cancel itself and pause":
                    await asyncio.sleep(0)
        except (ValueError, RuntimeError, TimeoutError) as error:
            told.append(f"{type(error).__name__} {str(error).partition('<')[0]}")
        except asyncio.CancelledError as error:
            told.append(f"cancelled {error.args} {itself.cancelling()}")
            if not swallows:
                raise
    if end == "raise":
        raise LookupError("at the end")
    if end == "cancelled":
        raise asyncio.CancelledError("at the end")
    if end == "cancel itself and return":
        itself.cancel("late")
    return "returned"


async def _watch(is_eager: bool, steps: list[tuple[str, bool]], end: str, deeds: list[str]) -> list[str]:
    told: list[str] = []
    pending: list[asyncio.Future[str]] = []
    coroutine = _play(steps, end, told, pending)
    task = await (begin(coroutine) if is_eager else begin_plain(coroutine))
    for deed in [*deeds, *["resolve", "step"] * (len(steps) + 1)]:
        if deed == "step":
            for _ in range(4):  # a step of the loop more or less is not what is compared
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005)  # for the timeouts of 0 s
        elif deed == "resolve":
            for future in pending:
                if not future.done():
                    future.set_result("resolved")
        elif deed == "uncancel":
            told.append(f"uncancel {task.uncancel()}")
        else:
            told += [f"{deed} {task.cancel(deed)}" for _ in range(deed.count("twice") + 1)]
        told.append(f"{deed}: {task.done()} {task.cancelled()} {task.cancelling()}")
    assert task.done()
    try:
        told.append(f"result {task.result()}")
    except BaseException as error:
        told.append(f"{type(error).__name__} {error.args}")
    return told


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.booleans()), max_size=5),
    end=st.sampled_from(ENDS),
    deeds=st.lists(st.sampled_from(DEEDS), max_size=6),
)
def test_a_task_goes_the_way_of_asyncios(steps: list[tuple[str, bool]], end: str, deeds: list[str]) -> None:
    async def main() -> tuple[list[str], list[str]]:
        return await _watch(True, steps, end, deeds), await _watch(False, steps, end, deeds)

    eager, plain = run(main)
    assert eager == plain


# --- how it starts, and ends ---


@pytest.mark.parametrize("new_loop", LOOPS)
def test_it_starts_in_a_context_of_its_own(new_loop: Callable[[], Any]) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")
    told = []

    async def handler() -> None:
        told.append(variable.get())
        variable.set("inside")
        await asyncio.sleep(0)
        told.append(variable.get())

    async def main() -> None:
        variable.set("by the maker")
        task = begin_later(handler())
        variable.set("by the maker, later")
        await task
        assert told == ["by the maker", "inside"]
        assert variable.get() == "by the maker, later"

    run(main, new_loop)


def test_user_code_runs_in_an_asyncio_task() -> None:
    async def handler() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def main() -> None:
        task = await begin(handler())
        assert task.done()
        assert task.result() is task
        assert isinstance(task, asyncio.Task)
        assert asyncio.isfuture(task)
        assert task not in asyncio.all_tasks()

    run(main)


def test_a_waiting_task_shows_name_and_stack() -> None:
    """A task that waits is shown with its name and stack."""

    async def handler() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = await begin(handler())
        assert task in asyncio.all_tasks()
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["handler"]
        assert task.get_name() == "a turn"
        task.set_name("another")
        assert "handler" in repr(task)
        assert "another" in repr(task)
        assert "wait_for" in repr(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task not in asyncio.all_tasks()

    run(main)


def test_keyboard_interrupt_leaves_the_loop() -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def main() -> None:
        await begin(handler())
        await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        run(main)


def test_an_interrupted_batch_loses_nobody() -> None:
    told = []

    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def handler(name: str) -> None:
        told.append(name)

    async def main() -> None:
        begin_later(handler("first"))
        begin_later(interrupted())
        begin_later(handler("second"))
        begin_later(handler("third"))
        await asyncio.sleep(30)

    loop = uvloop.new_event_loop()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    loop.run_until_complete(asyncio.sleep(0))
    assert told == ["first", "second", "third"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_a_lost_waiting_task_is_reported() -> None:
    async def handler() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> list[str]:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        await begin(handler())
        gc.collect()
        return told

    assert run(main) == ["Task was destroyed but it is pending!"]


def test_a_finished_task_is_freed_at_once() -> None:
    async def handler() -> None:
        pass

    async def waiting() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        gc.collect()
        gc.disable()
        try:
            await begin(handler())
            await begin(waiting())
            await asyncio.sleep(0)
            assert not [thing for thing in gc.get_objects() if type(thing) is EagerTask]
        finally:
            gc.enable()

    run(main)


# --- with what handlers use ---


@pytest.mark.parametrize("new_loop", LOOPS)
def test_timeouts_groups_and_scopes_work_in_it(new_loop: Callable[[], Any]) -> None:
    async def handler() -> list[str]:
        told = []
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(30)
        except TimeoutError:
            told.append("timeout")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(30))
                group.create_task(fail())
        except Exception as error:
            told.append(type(error).__name__)
        with anyio.move_on_after(0.001):
            await anyio.sleep(30)
        told.append("scope")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(30)
        told.append("cancelled scope")
        told.append(await anyio.to_thread.run_sync(lambda: "thread"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        async with anyio.create_task_group() as children:
            children.start_soon(anyio.sleep, 0)
        itself = asyncio.current_task()
        assert itself is not None
        return [*told, str(itself.cancelling())]

    async def fail() -> None:
        raise ValueError

    async def main() -> tuple[list[str], list[str]]:
        return await begin_later(handler()), await asyncio.create_task(handler())

    eager, plain = run(main, new_loop)
    assert eager == plain
    assert eager[:-1] == ["timeout", "ExceptionGroup", "scope", "cancelled scope", "thread"]
