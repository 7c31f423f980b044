"""The forms of an APP, and the errors of objects that are not APPs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server import demo
from se_server.errors import AppError
from se_server.server.config.app import load_app
from se_server.server.config.crashes import AppCrashed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, source: str) -> None:
    path.write_text(textwrap.dedent(source))


def sentence(spec: str) -> str:
    with pytest.raises(AppError) as caught:
        load_app(spec)
    assert not isinstance(caught.value, AppCrashed)
    text = str(caught.value)
    assert "\n" not in text
    assert spec in text
    return text


ANSWERS = "async def on_transcript(transcript, session): ...\n"
LIFESPAN = "from contextlib import asynccontextmanager\n@asynccontextmanager\nasync def on_startup({}): yield"

AGENT = """
    async def on_transcript(transcript, session): ...
    def on_init(conversation_id, session): ...
    def on_startup(): ...
    async def on_shutdown(): ...
    async def reply(transcript, session): ...

    class Agent:
        def on_transcript(self, transcript, session): ...
        def on_startup(self): ...

    agent = Agent()
    table = {"on_transcript": reply, "on_shutdown": on_shutdown}
"""


def test_no_app_is_the_demo_agent() -> None:
    app = load_app(None)
    assert app.handlers.on_transcript is demo.on_transcript
    assert app.name == "demo"


@pytest.mark.parametrize("spec", ["agent_module", "agent_module.py", "./agent_module.py"])
def test_a_module_or_file_with_handlers(folder: Path, spec: str) -> None:
    write(folder / "agent_module.py", AGENT)
    app = load_app(spec)
    assert [getattr(app.handlers, name) is not None for name in ("on_transcript", "on_init", "on_close")] == [
        True,
        True,
        False,
    ]
    assert app.on_startup is not None
    assert app.on_shutdown is not None
    assert app.name == spec


@pytest.mark.parametrize("place", ["agent_module", "agent_module.py"])
def test_app_may_be_function_object_or_dict(folder: Path, place: str) -> None:
    write(folder / "agent_module.py", AGENT)
    function = load_app(f"{place}:reply")
    assert function.handlers.on_transcript.__name__ == "reply"  # type: ignore[union-attr]
    assert function.on_startup is None
    instance = load_app(f"{place}:agent")
    assert instance.handlers.on_transcript is not None
    assert instance.on_startup is not None
    table = load_app(f"{place}:table")
    assert table.handlers.on_transcript.__name__ == "reply"  # type: ignore[union-attr]
    assert table.on_shutdown is not None


FOR_CHECKERS = """
    import functools
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from nowhere import Transcript
    async def reply(transcript: list[Transcript], session: Session) -> None: ...
    async def of(tenant: str, transcript: Transcript, session: Session) -> None: ...
    async def short(transcript: list[Transcript], *, loud: bool = False) -> None: ...
    class Agent:
        async def __call__(self, transcript: Transcript, session: Session) -> None: ...
    table = {"on_transcript": Agent()}
    part = {"on_transcript": functools.partial(of, "tenant")}
    wrong = {"on_transcript": short}
"""


def write_for_checkers(path: Path) -> None:
    """Write annotations without a value: Python 3.14 evaluates none at import, earlier ones need the __future__."""
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    path.write_text(future + textwrap.dedent(FOR_CHECKERS))


@pytest.mark.parametrize("place", ["reply", "table", "part"])
def test_annotations_of_handlers_need_no_value(folder: Path, place: str) -> None:
    write_for_checkers(folder / "agent.py")
    assert load_app(f"agent.py:{place}").handlers.on_transcript is not None


def test_annotations_are_shown_as_they_are_written(folder: Path) -> None:
    write_for_checkers(folder / "agent.py")
    shown = sentence("agent.py:wrong").replace("'", "")  # earlier Pythons quote them
    assert "short(transcript: list[Transcript], *, loud: bool = False) -> None cannot be called as" in shown


def test_server_brings_its_handlers_key_and_path(folder: Path) -> None:
    write(
        folder / "engine_module.py",
        """
        from se_server import SpeechEngineServer
        async def answer(transcript, session): ...
        server = SpeechEngineServer(api_key=["new", "old"], path="/ws", on_transcript=answer)
        """,
    )
    app = load_app("engine_module:server")
    assert app.handlers.on_transcript.__name__ == "answer"  # type: ignore[union-attr]
    assert (app.api_keys, app.options) == (("new", "old"), {"path": "/ws"})


def test_a_file_imports_its_neighbours_also_from_elsewhere(folder: Path) -> None:
    (folder / "sub").mkdir()
    write(folder / "sub" / "neighbour_module.py", "async def reply(transcript, session): ...")
    write(folder / "sub" / "main_module.py", "from neighbour_module import reply as on_transcript")
    assert load_app("sub/main_module.py").handlers.on_transcript is not None


@pytest.mark.parametrize(
    "spec", ["callers/agents/app.py", "callers/agents/app.py:agent", "callers.agents.app", "callers.agents.app:agent"]
)
def test_an_app_inside_a_package_exists_once(folder: Path, spec: str) -> None:
    inner = folder / "callers" / "agents"
    inner.mkdir(parents=True)
    (folder / "callers" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("")
    (inner / "types.py").write_text("WORD = 'own'\n")
    (inner / "absolute.py").write_text("")
    write(
        inner / "app.py",
        """
        import sys
        from . import types
        from ..words import WORD
        import absolute
        assert types.WORD == "own"
        class Agent:
            async def on_transcript(self, transcript, session): ...
        agent = Agent()
        async def on_transcript(transcript, session): ...
        """,
    )
    (folder / "callers" / "words.py").write_text("WORD = 'hello'\n")
    if spec.startswith("callers."):
        (folder / "absolute.py").write_text("")
    load_app(spec)
    made = [name for name, module in sys.modules.items() if (getattr(module, "__file__", "") or "").endswith("app.py")]
    assert [name for name in made if "callers" in str(sys.modules[name].__file__)] == ["callers.agents.app"]


def test_a_package_itself_is_an_app(folder: Path) -> None:
    (folder / "talkers").mkdir()
    (folder / "talkers" / "__init__.py").write_text("from .app import on_transcript\n")
    (folder / "talkers" / "app.py").write_text(ANSWERS)
    assert load_app("talkers/__init__.py").handlers.on_transcript is sys.modules["talkers.app"].on_transcript
    assert load_app("talkers/app.py").handlers.on_transcript is sys.modules["talkers.app"].on_transcript


def test_package_named_like_a_loaded_module_hides_nothing(folder: Path) -> None:
    (folder / "json").mkdir()
    (folder / "json" / "__init__.py").write_text("")
    (folder / "json" / "app.py").write_text(ANSWERS)
    import json

    assert load_app("json/app.py").handlers.on_transcript is not None
    assert sys.modules["json"] is json


def test_relative_imports_outside_of_a_package(folder: Path) -> None:
    (folder / "loose").mkdir()
    (folder / "loose" / "tools.py").write_text("")
    (folder / "loose" / "app.py").write_text("from . import tools\n" + ANSWERS)
    text = sentence("loose/app.py")
    assert "relative imports and is in no package" in text
    assert text.endswith("or write loose.app")
    assert load_app("loose.app").handlers.on_transcript is not None


def test_a_package_whose_folder_has_no_name_of_python(folder: Path) -> None:
    (folder / "talk-ers").mkdir()
    (folder / "talk-ers" / "__init__.py").write_text("")
    (folder / "talk-ers" / "app.py").write_text("from . import tools\n" + ANSWERS)
    assert "the name of the folder talk-ers is not a name in Python" in sentence("talk-ers/app.py")


def test_a_package_with_a_slash_is_the_package(folder: Path) -> None:
    (folder / "talkers").mkdir()
    (folder / "talkers" / "__init__.py").write_text(ANSWERS)
    assert load_app("talkers/").handlers.on_transcript is sys.modules["talkers"].on_transcript


def test_a_package_without_handlers_names_a_module(folder: Path) -> None:
    (folder / "talkers").mkdir()
    (folder / "talkers" / "__init__.py").write_text("")
    (folder / "talkers" / "app.py").write_text(ANSWERS)
    for spec in ("talkers", "talkers/", "talkers/__init__.py"):
        assert sentence(spec).endswith("is a package: write one of its modules, such as talkers.app")


def test_a_call_in_the_spec_shows_the_line_to_add(folder: Path) -> None:
    text = sentence("agent.py:make(3)")
    assert "add the line `agent = make(3)` to your module, and write agent.py:agent" in text


def test_file_named_like_a_module_hides_nothing(folder: Path) -> None:
    write(folder / "logging.py", "async def on_transcript(transcript, session): ...")
    import logging

    assert load_app("logging.py").handlers.on_transcript is not None
    assert sys.modules["logging"] is logging


def test_a_missing_file_or_module_names_the_nearest(folder: Path) -> None:
    write(folder / "agent_module.py", AGENT)
    assert "did you mean agent_module.py?" in sentence("agnet_module.py")
    text = sentence("agnet_module")
    assert f"no module 'agnet_module' in {folder}" in text
    assert "did you mean agent_module?" in text
    assert "did you mean ./agent_module.py?" in sentence("./agent_module")


def test_a_missing_attribute_names_the_nearest(folder: Path) -> None:
    write(folder / "agent_module.py", AGENT)
    assert "has no 'repyl'; did you mean reply?" in sentence("agent_module:repyl")


def test_an_incomplete_spec_says_the_forms() -> None:
    assert "module, module:attr, file.py or file.py:attr" in sentence("agent:")
    assert "module, module:attr, file.py or file.py:attr" in sentence(":agent")
    assert "module, module:attr, file.py or file.py:attr" in sentence("agent.py:")


@pytest.mark.parametrize(
    ("source", "attribute", "expected"),
    [
        ("async def on_transcrpt(t, s): ...", "", "did you mean on_transcript?"),
        ("def on_init(i, s): ...\nasync def on_transcripts(t, s): ...", "", "did you mean on_transcript?"),
        ("async def answer(t, s): ...", "", "write bad_module:answer"),
        (
            "import se_server\ndef answer(t, s): ...\nserver = se_server.SpeechEngineServer(on_transcript=answer)",
            "",
            "write bad_module:server",
        ),
        ("class Agent:\n  def on_transcript(self, t, s): ...\nagent = Agent()", "", "write bad_module:agent"),
        ("def answer(t, s): ...\nbot = {'on_transcript': answer}", "", "write bad_module:bot"),
        ("class Agent:\n  def on_transcript(self, t, s): ...", "", "add the line `agent = Agent(...)`"),
        ("class Agent:\n  def on_transcript(self, t, s): ...", "", "write bad_module:agent"),
        ("import fastapi\napp = fastapi.FastAPI()", "app", "is an ASGI application: run it with its own server"),
        ("import fastapi\napp = fastapi.FastAPI()", "", "no handler, and its app is an ASGI application"),
        ("async def app(scope, receive, send): ...", "app", "await engine.create_session(websocket"),
        ("def app(environ, start_response): ...", "app", "is a WSGI application, which has no WebSockets"),
        ("from aiohttp import web\napp = web.Application()", "app", "is an aiohttp application"),
        ("x = 1", "", "looked for on_init, on_transcript"),
        ("x = 1", "x", "is a int with no handler"),
        ("table = {'on_transcrip': print}", "table", "unknown handler 'on_transcrip'; did you mean on_transcript?"),
        ("table = {'on_transcript': 3}", "table", "on_transcript must be a function, not int"),
        ("on_startup = 3\ndef on_transcript(t, s): ...", "", "on_startup must be a function, not int"),
        ("class Agent:\n  def on_transcript(self, t, s): ...", "Agent", "is a class: make an object of it"),
        ("async def reply(transcript): ...", "reply", "reply(transcript) cannot be called as on_transcript("),
        ("async def on_transcript(t, s): yield 'hi'", "", "yields, so calling it runs nothing: write `async"),
        ("def on_transcript(t, s): yield 'hi'", "", "to `await session.send_response(...)`"),
        (ANSWERS + "async def on_init(session): ...", "", "write `async def on_init(conversation_id, session)`"),
        (ANSWERS + "async def on_init(i, s): yield", "", "on_init(conversation_id, session)` without `yield`"),
        (ANSWERS + "def on_close(): ...", "", "on_close() cannot be called as on_close(session): write `async"),
        (ANSWERS + "on_disconnect = lambda code, s: 0", "", "cannot be called as on_disconnect(session)"),
        (ANSWERS + "async def on_error(error): ...", "", "cannot be called as on_error(error, session)"),
        (ANSWERS + "async def on_interrupt(s, *, t): ...", "", "cannot be called as on_interrupt(turn, session)"),
        (ANSWERS + "async def on_startup(app): ...", "", "on_startup(app) cannot be called as on_startup()"),
        (ANSWERS + "async def on_startup(app): yield", "", "on_startup(app) cannot be called as on_startup()"),
        (ANSWERS + LIFESPAN.format("app"), "", "cannot be called as on_startup()"),
        (ANSWERS + "async def on_shutdown(): yield", "", "write `async def on_shutdown()` without `yield`"),
        ("def on_init(i, s): print(i)", "", "has on_init and nothing that answers: define `async def on_transcript("),
        ("async def on_close(s): ...", "", "has on_close and nothing that answers"),
        ("async def on_startup(): ...", "", "has no handler and nothing that answers"),
        (
            "import httpx\nllm = httpx.AsyncClient()\ndef on_init(i, s): s.llm = llm",
            "",
            "nothing that answers",
        ),
        ("import se_server\nserver = se_server.SpeechEngineServer()", "server", "nothing that answers"),
        ("class Agent:\n  def on_transcript(self, t): ...\nagent = Agent()", "agent", "(transcript, session)"),
    ],
)
def test_what_is_no_app_is_one_sentence(folder: Path, source: str, attribute: str, expected: str) -> None:
    (folder / "bad_module.py").write_text(source + "\n")
    assert expected in sentence("bad_module" + (f":{attribute}" if attribute else ""))


@pytest.mark.parametrize(
    "source",
    [
        "async def on_init(i, session): session.on('user_transcript', print)",
        "def attach(session): session.once('user_transcript', print)\ndef on_init(i, session): attach(session)",
        "class Bot:\n  def __init__(self, session): session.on('user_transcript', print)\n"
        "async def on_init(i, session): Bot(session)",
        "class Bot:\n  def join(self, session): session.on('user_transcript', print)\nbot = Bot()\n"
        "def on_init(i, session): bot.join(session)",
        "import functools\ndef join(mood, i, session): session.on('user_transcript', print)\n"
        "on_init = functools.partial(join, 'glad')",
    ],
)
def test_on_init_may_register_what_answers(folder: Path, source: str) -> None:
    (folder / "joining_module.py").write_text(source + "\n")
    assert load_app("joining_module").handlers.on_transcript is None


@pytest.mark.parametrize(
    "source",
    [
        "async def on_startup():\n  log.append('start')\n  yield\n  log.append('stop')",
        "def on_startup():\n  log.append('start')\n  yield\n  log.append('stop')",
        "from contextlib import asynccontextmanager\n@asynccontextmanager\n"
        "async def on_startup():\n  log.append('start')\n  yield {}\n  log.append('stop')",
        "class Agent:\n  async def on_startup(self):\n    log.append('start')\n    yield\n    log.append('stop')\n"
        "on_startup = Agent().on_startup",
    ],
)
async def test_an_on_startup_that_yields_starts_and_stops(folder: Path, source: str) -> None:
    """The code behind its `yield` runs after on_shutdown."""
    (folder / "lifespan_module.py").write_text(
        f"log = []\n{ANSWERS}async def on_shutdown(): log.append('on_shutdown')\n{source}\n"
    )
    app = load_app("lifespan_module")
    log = sys.modules["lifespan_module"].log
    assert app.on_startup is not None
    assert app.on_shutdown is not None
    await app.on_startup()  # type: ignore[misc]
    assert log == ["start"]
    await app.on_shutdown()  # type: ignore[misc]
    assert log == ["start", "on_shutdown", "stop"]


@pytest.mark.parametrize("spec", ["crash_module", "crash_module.py"])
def test_traceback_shows_only_frames_of_the_app(folder: Path, spec: str) -> None:
    write(
        folder / "crash_module.py",
        """
        def connect():
            raise RuntimeError("the database is away\\nsecond line")
        try:
            {}["missing"]
        except KeyError:
            connect()
        """,
    )
    with pytest.raises(AppCrashed, match="raised RuntimeError: the database is away") as caught:
        load_app(spec)
    assert "\n" not in str(caught.value)
    details = caught.value.details
    assert details.startswith("Traceback (most recent call last):\n")
    assert details.count("crash_module.py") == 3
    assert "KeyError" in details
    assert "importlib" not in details
    assert "se_server" not in details


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("x = (", "SyntaxError"),
        ("import sys; sys.exit(1)", "SystemExit"),
    ],
)
def test_other_ways_to_fail_at_import(folder: Path, source: str, expected: str) -> None:
    (folder / "crash_module.py").write_text(source + "\n")
    for spec in ("crash_module", "crash_module.py"):
        with pytest.raises(AppCrashed, match=f"raised {expected}") as caught:
            load_app(spec)
        assert expected in caught.value.details
        assert "se_server" not in caught.value.details


def test_a_module_of_python_hides_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AppError, match="is the module json of Python's own library; give your module another name"):
        load_app("json")
    (tmp_path / "json.py").write_text("async def on_transcript(transcript, session): ...")
    with pytest.raises(AppError, match=r"did you mean json\.py\?"):
        load_app("json")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("notes.ipynb", "it is a file whose name does not end in .py"),
        ("https://example.org/agent", "an APP is a module or a file, not an address"),
        ("package/agent.PY", "neither a module's name nor a file that ends in .py; did you mean package/agent.py?"),
        ("package.agnet", "did you mean package.agent?"),
    ],
)
def test_another_kind_of_app_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.ipynb").write_text("{}")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "agent.py").write_text("")
    with pytest.raises(AppError) as caught:
        load_app(spec)
    assert words in str(caught.value)
