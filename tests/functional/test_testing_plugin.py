"""The pytest plugin as its users see it: separate runs of pytest, with and without other plugins."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import se_server
from se_server.testing import Caller

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
IS_INSTALLED = any(point.name == "se_server" for point in entry_points(group="pytest11"))
OURS = () if IS_INSTALLED else ("-p", "se_server.testing.plugin")
# These tests do not need those plugins, and one of them takes half a second to load.
OTHERS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")


@pytest.fixture(autouse=True)
def _is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(se_server.__file__).parents[1]))


APP = """
    import asyncio

    log = []

    def on_startup():
        log.append("startup")

    async def on_shutdown():
        log.append("shutdown")

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "fail":
            raise ValueError("the provider is away")
        await asyncio.sleep(20)
        await session.send_response(words() if said == "story" else f"You said {said}.")

    async def words():
        for number in range(30):
            yield f"word{number:02} "
"""

NONE = ("-p", "no:asyncio", "-p", "no:anyio")
ALONE = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:timeout", "-p", "no:benchmark")
AUTO = ("-p", "no:anyio", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
STRICT = ("-p", "no:anyio", "-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")
ANYIO = ("-p", "no:asyncio")


def run(pytester: pytest.Pytester, tests: str, *options: str, app: str = APP) -> pytest.RunResult:
    """Run pytest on one file of tests in a separate process."""
    pytester.makepyfile(app=app)
    pytester.makepyfile(test_agent=tests)
    return pytester.runpytest_subprocess(*OURS, *OTHERS, *(options or NONE), timeout=50)


THE_FIRST_TRY = """
    import pytest
    import app

    {mark}

    @pytest.fixture
    def se_app():
        return app

    async def test_greets(caller):
        reply = await caller.say("hello")
        assert reply.text == caller.heard == "You said hello."
        assert reply.first_word_s == 20.0

    async def test_is_interrupted(caller):
        caller.interrupt("Stop!", after_chars=40)
        story = await caller.say("story")
        assert story.is_interrupted
        assert story.text == "word00 word01 word02 word03 word04 word05 "
        assert (await caller.say("more")).text == "You said more."
        assert [turn.heard for turn in caller.turns] == [story.text, "You said Stop!.", "You said more."]

    def test_of_a_plain_function(plain_caller):
        assert plain_caller.say("hello").text == "You said hello."
        plain_caller.utter("story")
        assert plain_caller.interrupt(after_s=5).text == "You said Wait a moment.."
        assert plain_caller.turns[1].heard == ""

    class TestMethods:
        async def test_of_a_class(self, make_caller):
            one, other = make_caller(headers={{"X-Customer": "7"}}, path="/call?x=1"), make_caller()
            await one.say("hello")
            await other.say("hello")
            assert one.session.headers["x-customer"] == "7"
            assert (one.session.path, one.session.query) == ("/call", "x=1")
            assert [one.conversation_id, other.conversation_id] == ["conv_1", "conv_2"]

    def test_each_test_starts_and_stops_the_app():
        assert app.log == ["startup", "shutdown"] * 4
"""


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        pytest.param(ALONE, "", id="no other plugin"),
        pytest.param(AUTO, "", id="pytest-asyncio auto"),
        pytest.param(STRICT, "", id="pytest-asyncio strict, unmarked"),
        pytest.param(
            STRICT,
            "def pytestmark_of(f): return pytest.mark.asyncio(f)",
            id="pytest-asyncio strict",
        ),
        pytest.param((*ANYIO, "-o", "anyio_mode=auto"), "", id="anyio auto"),
    ],
)
def test_the_first_try_passes(pytester: pytest.Pytester, options: tuple[str, ...], mark: str) -> None:
    tests = THE_FIRST_TRY.format(mark="")
    if mark:
        tests = tests.replace("    async def test_", "    @pytest.mark.asyncio\n    async def test_")
        tests = tests.replace(
            "        @pytest.mark.asyncio\n    async def", "        @pytest.mark.asyncio\n        async def"
        )
    if "anyio_mode=auto" in options:
        pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'")
    result = run(pytester, tests, *options)
    result.assert_outcomes(passed=5)


def test_a_failure_shows_the_conversation(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        pytestmark = pytest.mark.se_app("app.py")

        async def test_greets(caller):
            reply = await caller.say("hello")
            assert reply.text == "Good morning."
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*assert 'You said hello.' == 'Good morning.'*",
            "*- conversation -*",
            "conv_1:",
            "    0.00 s user  (id *) 'hello'",
            "   20.00 s agent (id *) 'You said hello.'",
        ]
    )


FAILING = """
    import pytest
    pytestmark = pytest.mark.se_app("app.py")

    async def test_not_expected(caller):
        await caller.say("fail")

    def test_not_expected_by_a_plain_function(plain_caller):
        plain_caller.say("fail")

    async def test_expected(caller):
        assert (await caller.say("fail")).text == ""
        assert isinstance(caller.errors.pop(), ValueError)

    async def test_own_failure_comes_first(caller):
        assert (await caller.say("fail")).text == "Hello"
"""


def test_an_unhandled_error_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(pytester, FAILING)
    result.assert_outcomes(failed=3, passed=1)
    output = result.stdout.str()
    assert output.count('raise ValueError("the provider is away")') == 3, output
    assert "FAILED test_agent.py::test_not_expected - ValueError: the provider is away" in output
    assert "FAILED test_agent.py::test_not_expected_by_a_plain_function - ValueError" in output
    assert "FAILED test_agent.py::test_own_failure_comes_first - AssertionError" in output
    assert "_run_turn" not in output  # the server's own frames


def test_a_swallowed_cancellation_is_one_sentence(pytester: pytest.Pytester) -> None:
    app = """
        import asyncio

        async def on_transcript(transcript, session):
            await session.send_response("Hi.")
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass
    """
    tests = """
        import pytest

        pytestmark = pytest.mark.se_app("app.py")

        async def test_it(caller):
            assert (await caller.say("hello")).text == "Hi."
    """
    result = run(pytester, tests, *NONE, app=app)
    result.stdout.fnmatch_lines(["*VirtualTimeError: 1 handler(s) or task(s) still run 2 s after they were cancelled*"])
    result.stdout.fnmatch_lines(["*handler app.on_transcript still runs*"])


def test_an_agent_that_handles_its_errors_passes(pytester: pytest.Pytester) -> None:
    app = APP + "\n    def on_error(error, session):\n        log.append(str(error))\n"
    result = run(
        pytester,
        """
        import pytest, app
        pytestmark = pytest.mark.se_app("app.py")

        async def test_it(caller):
            await caller.say("fail")
            assert app.log == ["startup", "the provider is away"]
            assert not caller.errors
        """,
        app=app,
    )
    result.assert_outcomes(passed=1)


def test_an_interruption_may_come_before_the_conversation(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        pytestmark = pytest.mark.se_app("app.py")

        async def test_it(make_caller):
            caller = make_caller()
            stop = caller.interrupt("Stop!", after_chars=40)
            assert (await caller.say("story")).text == "word00 word01 word02 word03 word04 word05 "
            assert (await stop).text == "You said Stop!."
        """,
        *NONE,
    )
    result.assert_outcomes(passed=1)


MISTAKES = [
    ("async def test_it(caller): ...", "*there is no agent to call: define a fixture `se_app`*"),
    ("@MARK('ap.py')\nasync def test_it(caller): ...", "*there is no file */ap.py, did you mean app.py? *"),
    ("@MARK('app.py:nothing')\nasync def test_it(caller): ...", "*has no 'nothing'*"),
    ("@MARK('app.py')\ndef test_it(caller): ...", "*a plain function takes `plain_caller`*"),
    ("@MARK('app.py')\nasync def test_it(plain_caller): ...", "*an `async def` takes `caller`"),
    (
        "@MARK('app.py')\nasync def test_it(caller):\n    await asyncio.get_running_loop().create_future()",
        "*VirtualTimeError: nothing can happen any more*",
    ),
    ("@MARK('app.py')\nasync def test_it(caller): await asyncio.sleep(3601)", "*more than 3600 virtual seconds*"),
    (
        "@MARK('app.py', time_budget_s=9)\nasync def test_it(caller): await caller.pause(10)",
        "*more than 9 virtual seconds*",
    ),
    ("@MARK('app.py')\nasync def test_it(caller): caller.interrupt()", "*found no answer to interrupt*"),
    (
        "@MARK('app.py')\nasync def test_it(caller):\n    caller.interrupt(after_chars=99)\n    await caller.say('x')",
        "*the answer was complete before it could be interrupted: 11 characters were heard",
    ),
    (
        "@MARK('app.py', handover=1)\nasync def test_it(caller): ...",
        "*no option 'handover'; did you mean handover_s?",
    ),
]


def test_a_mistake_is_one_sentence(pytester: pytest.Pytester) -> None:
    tests = [test.replace("test_it", f"test_{number}") for number, (test, _) in enumerate(MISTAKES)]
    result = run(pytester, "\n".join(["import asyncio, pytest", "MARK = pytest.mark.se_app", *tests]))
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == len(MISTAKES)
    for _, sentence in MISTAKES:
        result.stdout.fnmatch_lines_random([sentence])
    result.stdout.no_fnmatch_line("*another exception occurred*")


def test_a_foreign_loop_is_named(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef anyio_backend(): return ('asyncio', {'use_uvloop': True})"
    )
    result = run(
        pytester,
        "import pytest\n@pytest.mark.se_app('app.py')\nasync def test_it(caller): ...",
        *ANYIO,
        "-o",
        "anyio_mode=auto",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*virtual time needs asyncio's own event loop, and this one is uvloop.Loop*"])


def test_loading_the_plugin_imports_nothing_else() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import se_server.testing.plugin; "
        "new = set(sys.modules) - before; "
        "print(sorted(name for name in new if name.startswith(('se_server', 'asyncio', 'picows'))))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['se_server', 'se_server.testing', 'se_server.testing.plugin']"


def test_the_example_agent_passes_its_tests(pytester: pytest.Pytester) -> None:
    for file in (ROOT / "examples" / "booking").glob("*.py"):
        pytester.path.joinpath(file.name).write_text(file.read_text())
    result = pytester.runpytest_subprocess(*OURS, *OTHERS, *NONE, timeout=50)
    result.assert_outcomes(passed=5)


def test_the_documents_tests_pass(pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    tests = [block for block in blocks if "async def test_" in block]
    assert len(tests) == 4
    app = """
        import asyncio

        async def on_transcript(transcript, session):
            if transcript[-1].content == "fail":
                raise ConnectionError("the provider is away")
            await session.send_response(words())

        async def words():
            await asyncio.sleep(2)
            for word in ["Hello, "] * 30:
                yield word
    """
    result = run(pytester, "\n".join(["from se_server.testing import Habits", *tests]), app=app)
    result.assert_outcomes(passed=4)


def test_the_document_names_what_is_there() -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    for name in re.findall(r"caller\.(\w+)", text):
        assert name in {*dir(Caller), *inspect.signature(Caller).parameters, "errors", "session"}, name
