"""The pytest plugin: the fixtures `caller`, `plain_caller`, `make_caller`, `se_replay` and `se_app`.

Every run of pytest in the user's environment imports this module, so it imports the rest only for tests that use a
fixture.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from se_server.testing.caller import Caller
    from se_server.testing.plain import PlainCaller
    from se_server.testing.replaying import Replay
    from se_server.testing.stage import MakeCaller, Stage

_STAGE = pytest.StashKey["Stage"]()
_REPLAYS = pytest.StashKey[list["Replay"]]()

MARKER = (
    "se_app(app, **options): the agent that the fixture `caller` calls, as the APP of se-server or as an object; "
    "options as for `make_caller`, and time_budget_s"
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", MARKER)


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def se_app(request: pytest.FixtureRequest) -> object:
    """The agent under test. Override it with a fixture that returns your agent, or use the marker `se_app`."""
    marker = request.node.get_closest_marker("se_app")
    if marker is None or not marker.args:
        pytest.fail(
            "there is no agent to call: define a fixture `se_app` that returns it, or mark the tests: "
            'pytestmark = pytest.mark.se_app("app.py")',
            pytrace=False,
        )
    app = marker.args[0]
    if not isinstance(app, str):
        return app
    from se_server.testing.finding import found_app

    return _or_fail(functools.partial(found_app, app, request.path, request.config.rootpath))


@pytest.fixture
def make_caller(request: pytest.FixtureRequest, _se_stage: Stage) -> MakeCaller:
    """Create callers of other agents, with headers, with habits of the API, or with session options."""

    def make(app: object = None, **options: Any) -> Caller:
        marked = _options(request)
        marked.pop("time_budget_s", None)
        source = request.getfixturevalue("se_app") if app is None else app
        made: Caller = _or_fail(functools.partial(_se_stage.caller, source, **{**marked, **options}))
        return made

    return make


@pytest.fixture
def caller(request: pytest.FixtureRequest, make_caller: MakeCaller) -> Caller:
    """A caller of the agent under test, in virtual time: `reply = await caller.say("Hello")`."""
    if not inspect.iscoroutinefunction(request.function):
        pytest.fail(
            "the fixture `caller` is for `async def` tests; a plain function takes `plain_caller`, whose methods "
            "need no await",
            pytrace=False,
        )
    return make_caller()


@pytest.fixture
def plain_caller(request: pytest.FixtureRequest, make_caller: MakeCaller, _se_stage: Stage) -> PlainCaller:
    """A caller for plain functions: `reply = plain_caller.say("Hello")`."""
    from se_server.testing.plain import PlainCaller

    if inspect.iscoroutinefunction(request.function):
        pytest.fail("the fixture `plain_caller` is for plain functions; an `async def` takes `caller`", pytrace=False)
    plain = PlainCaller(make_caller(), _se_stage)
    test = request.node.obj

    @functools.wraps(test)
    def to_the_end(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            test(*args, **kwargs)
        finally:
            plain.finish()

    request.node.obj = to_the_end
    return plain


@pytest.fixture
def se_replay(request: pytest.FixtureRequest) -> Callable[..., Replay]:
    """Hold a recorded conversation again, in virtual time: `replay = se_replay("conversation.jsonl")`.

    The file is looked up beside the test, then from the working directory. See `se_server.testing.replay` for `llm`,
    `headers` and session options.
    """
    from se_server.testing.replaying import replay

    replays = request.node.stash[_REPLAYS] = []

    def hold(path: str | Path, app: object = None, **options: Any) -> Replay:
        __tracebackhide__ = True
        marked = _options(request)
        marked.pop("time_budget_s", None)
        source = request.getfixturevalue("se_app") if app is None else app
        beside = request.path.parent / path
        file = beside if beside.exists() else Path(path)
        held: Replay = _or_fail(functools.partial(replay, file, source, **{**marked, **options}))
        replays.append(held)
        return held

    return hold


@pytest.fixture
def _se_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    from se_server.testing.stage import Stage

    item = request.node
    stage = item.stash[_STAGE] = Stage()
    stage.time_budget_s = _options(request).get("time_budget_s", stage.time_budget_s)
    test = item.obj
    if inspect.iscoroutinefunction(test):
        # Any plugin that runs the test then runs it in virtual time and to its end, on one loop and in one task. The
        # clean-up of a fixture might run on another loop, or on none.
        @functools.wraps(test)
        async def to_the_end(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            await stage.play(_opened(stage, test(*args, **kwargs)))

        item.obj = to_the_end
    yield stage
    item.obj = test


async def _opened(stage: Stage, test: Any) -> None:
    __tracebackhide__ = True
    try:
        for made in stage.callers:
            await made.open()
    except BaseException:
        test.close()
        raise
    await test


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    marker = request.node.get_closest_marker("se_app")
    return {} if marker is None else dict(marker.kwargs)


def _or_fail(make: Any) -> Any:
    """Report a mistake of the user as one sentence, without a traceback."""
    __tracebackhide__ = True
    from se_server.errors import AppError, CallerError, ScriptError

    try:
        return make()
    except (AppError, CallerError, ScriptError) as error:
        text = "\n".join([str(error), getattr(error, "details", "")]).rstrip()
    pytest.fail(text, pytrace=False)  # not above, where pytest would show the error again as context


# --- hooks ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run a coroutine test that no other plugin runs; fail a test whose agent raised an unhandled exception."""
    __tracebackhide__ = True
    stage = pyfuncitem.stash.get(_STAGE, None)
    result = yield
    if stage is not None and stage.problems:
        from se_server.testing.errors import with_own_frames

        raise with_own_frames(stage.problems[0])
    return result


class _Runner:
    """A second implementation of `pytest_pyfunc_call`."""

    @staticmethod
    def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
        # Plugins of other libraries have replaced the coroutine by a plain function by now, or ran before.
        __tracebackhide__ = True
        if _STAGE not in pyfuncitem.stash or not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        from se_server.testing.clock import run_on_new_loop

        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        run_on_new_loop(pyfuncitem.obj(**arguments))
        return True


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Register the second implementation with the first."""
    if getattr(plugin, "__name__", "") == __name__:
        manager.register(_Runner, "se_server-runner")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the conversations to the report of a failed test."""
    report = yield
    stage = item.stash.get(_STAGE, None)
    if stage is not None and report.failed and call.when == "call":
        from se_server.testing.report import format_conversations

        if text := format_conversations(stage.callers, None if call.excinfo is None else call.excinfo.value):
            report.sections.append(("conversation", text))
    if report.failed and call.when == "call":
        report.sections += [("replay", str(replay)) for replay in item.stash.get(_REPLAYS, ())]
    return report
