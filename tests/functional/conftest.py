"""Checks that functional tests leave nothing behind; in Python's development mode this includes connection objects."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import AsyncIterator, Generator

import pytest

from tests.leaks import Before, no_tasks_left

_BEFORE = pytest.StashKey[Before]()

# Shells ignore SIGINT for background programs, nohup(1) ignores SIGHUP, and child processes inherit both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Check that the tasks of an asynchronous test have ended with it; its loop would cancel them silently."""
    yield
    await no_tasks_left()


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> None:
    """Record the state before the test and after the fixtures of its module."""
    request.node.stash[_BEFORE] = Before(objects=sys.flags.dev_mode)
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_is_left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip the check if a test fails: its traceback keeps its objects alive."""
    report = yield
    if report.failed and _BEFORE in item.stash:
        del item.stash[_BEFORE]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Check after all fixtures have ended and the captured log, with its exceptions, is cleared."""
    yield
    before = item.stash.get(_BEFORE, None)
    if before is not None:
        del item.stash[_BEFORE]
        _forget_tracebacks(item)
        before.check()


def _forget_tracebacks(item: pytest.Item) -> None:
    """Remove the frames from exceptions among a test's parameters, which live to the end of the run."""
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        if isinstance(value, BaseException):
            value.__traceback__ = value.__context__ = None
