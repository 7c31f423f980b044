"""Logging of user code: its own records, its own configuration, and its errors, as `se-server` logs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.processes import write_agent
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
)

HEAD = """
    import asyncio, concurrent.futures, contextvars, logging, logging.config, sys, threading, warnings
    log = logging.getLogger("agent")
    class Bad:
        def __repr__(self): raise RuntimeError("no repr")
        def __str__(self): raise RuntimeError("no str")
    class BadError(Exception):
        def __str__(self): raise RuntimeError("no str")
"""
TURN = """
    async def on_transcript(transcript, session):
        {}
        await session.send_response("spoken")
"""


def agent(tmp_path: Path, turn: str = "pass", more: str = "") -> Path:
    return write_agent(tmp_path / "agent.py", HEAD + more + TURN.format(turn))


def records(server: ServerProcess) -> list[dict[str, Any]]:
    """Stop a server and return all records of its log, which has nothing else."""
    server.stop()
    return [json.loads(line) for line in server.output().splitlines()]


async def converse(server: ServerProcess, *said: str) -> list[str]:
    """Hold a conversation named conv_1 and return the answers."""
    async with connect(server.url) as websocket:
        await websocket.send(init_message("conv_1"))
        answers = []
        for event_id, text in enumerate(said or ("hello",), 1):
            await websocket.send(transcript_message(text, event_id=event_id))
            answers.append(spoken(await read_answer(websocket)))
    return answers


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ('log.info("order %(n)s", {"m": 1})', r"order %\(n\)s .*m=1.*KeyError"),
        ('log.info("order %r", Bad())', "order %r .*RuntimeError"),
        ("log.info(Bad())", "Bad whose text fails with RuntimeError"),
        ('log.info("%s %s", 1)', "%s %s .*TypeError"),
        ('log.info("%d", "one", extra={"bad": Bad()})', "%d .*TypeError"),
        ('log.info("x", extra={"bad": Bad(), "nested": [{"bad": Bad()}] * 1000})', "Bad whose text fails"),
        ('log.error("seen", exc_info=BadError())', "seen.*BadError"),
        ('log.info("half \\ud83d", extra={"half": "\\ud83d"})', r"half \\+ud83d"),
        ('log.info("%s.", "y" * 3_000_000)', "y{100}"),
        ('warnings.warn(Bad()) if False else warnings.warn("careful")', "UserWarning: careful"),
        ('log.makeRecord; log.handle(logging.LogRecord(Bad(), 20, "", 0, "odd", (), None))', "odd|fails"),
    ],
)
async def test_no_record_ends_a_turn(tmp_path: Path, call: str, shown: str, form: str) -> None:
    with running_server("--log-format", form, app=agent(tmp_path, call), workers=1) as server:
        assert await converse(server) == ["spoken"]
        server.stop()
        assert re.search(shown, server.output())
        if form == "json":
            records(server)


@pytest.mark.parametrize("place", ["in a handler", "in an import"])
async def test_an_error_whose_text_fails_is_shown(tmp_path: Path, place: str) -> None:
    if place == "in an import":
        app = agent(tmp_path, more="    raise BadError()\n")
        done = start(str(app))
        assert done.returncode == 3
        assert "raised BadError" in done.stderr
        return
    with running_server("--log-format", "json", app=agent(tmp_path, "raise BadError()"), workers=1) as server:
        await converse(server)
        (error,) = [record for record in records(server) if record["level"] == "error"]
    assert "BadError" in error["message"]


def start(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a server that cannot start."""
    command = [sys.executable, "-m", "se_server.cli.server", "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    return subprocess.run(
        [*command, *args],
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )


async def test_an_error_of_a_handler_has_its_traceback(tmp_path: Path) -> None:
    """JSON has it in a field, with real line feeds; the record knows conversation and turn."""
    app = agent(tmp_path, 'raise ValueError("two\\nlines")')
    with running_server("--log-format", "json", app=app, workers=1) as server:
        await converse(server, "one", "two")
        errors = [record for record in records(server) if record["level"] == "error"]
    assert [(error["conversation_id"], error["event_id"]) for error in errors] == [("conv_1", 1), ("conv_1", 2)]
    assert errors[0]["exception"].startswith("Traceback (most recent call last):\n")
    assert errors[0]["exception"].endswith("ValueError: two\nlines")
    assert "Traceback" not in errors[0]["message"]


CONTEXTS = """
    async def on_init(conversation_id, session):
        log.info("init")
    async def on_close(session):
        log.info("close")
    def plain():
        log.info("thread")
    async def child():
        await asyncio.sleep(0)
        log.info("task")
"""


async def test_records_of_handlers_know_their_turn(tmp_path: Path) -> None:
    """Also those of tasks and threads that a handler starts; others know none."""
    turn = 'log.info("turn"); await asyncio.gather(asyncio.to_thread(plain), child())'
    outside = "    log.info('import')\n"
    with running_server("--log-format", "json", app=agent(tmp_path, turn, CONTEXTS + outside), workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(init_message("conv_1"))
            for event_id in (1, 2):
                await websocket.send(transcript_message("hello", event_id=event_id))
                await read_answer(websocket)
            await websocket.send('{"type": "close"}')
            await websocket.wait_closed()
        found = [
            (record["message"], record.get("conversation_id"), record.get("event_id"))
            for record in records(server)
            if record["logger"] == "agent"
        ]
    turns = [(text, "conv_1", event_id) for event_id in (1, 2) for text in ("task", "thread", "turn")]
    assert sorted(found, key=str) == sorted(
        [("import", None, None), ("init", "conv_1", None), ("close", "conv_1", None), *turns], key=str
    )


async def test_extra_is_kept_and_overrides_nothing(tmp_path: Path) -> None:
    extra = (
        '{"event": "e", "fields": {"a": 1}, "time": "never", "level": "x", "user": "a b", "conversation_id": "mine"}'
    )
    app = agent(tmp_path, f'log.info("kept", extra={extra})')
    with running_server("--log-format", "json", app=app, workers=1) as server:
        assert await converse(server) == ["spoken"]
        (record,) = [record for record in records(server) if record["logger"] == "agent"]
    assert (record["message"], record["level"]) == ("kept", "info")
    assert record["time"].startswith("20")
    assert (record["event"], record["fields"], record["user"]) == ("e", {"a": 1}, "a b")
    assert (record["conversation_id"], record["event_id"]) == ("mine", 1)
    with running_server(app=app, workers=1) as server:
        await converse(server)
        line = server.wait_for_output(r"agent: (kept .*)")[1]
    assert 'user="a b"' in line
    assert "conversation_id=mine" in line


CONFIGURATIONS = {
    "dictConfig": 'logging.config.dictConfig({"version": 1, "root": {"level": "ERROR", "handlers": ["own"]},'
    ' "formatters": {"own": {"format": "OWN %(name)s %(message)s"}},'
    ' "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}}})',
    "basicConfig": 'logging.basicConfig(level="ERROR", format="OWN %(name)s %(message)s")',
    "addHandler": "own = logging.StreamHandler(); own.setFormatter(logging.Formatter('OWN %(name)s %(message)s'));"
    " logging.getLogger().addHandler(own)",
}


@pytest.mark.parametrize("how", CONFIGURATIONS)
@pytest.mark.parametrize("when", ["import", "turn"])
async def test_a_root_handler_of_the_agent_replaces_ours(tmp_path: Path, how: str, when: str) -> None:
    """Records of se-server go on, through that handler."""
    code = CONFIGURATIONS[how]
    turn = code if when == "turn" else "pass"
    app = agent(tmp_path, f'{turn}; logging.error("mine")', f"    {code}\n" if when == "import" else "")
    with running_server(app=app, workers=1) as server:
        assert await converse(server) == ["spoken"]
        server.wait_for_output("OWN root mine\n")
        server.wait_for_output("OWN se_server.conversations conversation ended: conversation_id=conv_1")
        assert len(re.findall("conversation ended", server.output())) == 1


async def test_a_configuration_without_root_handlers_silences_nothing(tmp_path: Path) -> None:
    code = 'logging.config.dictConfig({"version": 1, "loggers": {"other": {"level": "INFO"}}})'
    with running_server("--log-format", "json", app=agent(tmp_path, "pass", f"    {code}\n"), workers=1) as server:
        await converse(server)
        assert "conversation ended" in [record["message"] for record in records(server)]


async def test_a_configuration_keeps_what_python_itself_reports(tmp_path: Path) -> None:
    """`dictConfig` disables loggers that it does not name: not those of asyncio, executors and warnings."""
    code = (
        'logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": ["own"]},'
        ' "handlers": {"own": {"class": "logging.StreamHandler"}}})'
    )
    turn = (
        'warnings.warn("careful"); asyncio.get_running_loop().call_soon([].pop);'
        ' f = concurrent.futures.Future(); f.add_done_callback(lambda f: {}["lost"]); f.set_result(1);'
        " await asyncio.sleep(0)"
    )
    with running_server(app=agent(tmp_path, turn, f"    {code}\n"), workers=1) as server:
        await converse(server)
        for line in ("UserWarning: careful", "IndexError: pop from empty list", "KeyError: 'lost'"):
            server.wait_for_output(line)


@pytest.mark.parametrize(
    ("form", "call", "shown"),
    [
        (
            "%(levelname)s:%(name)s:%(message)s",
            'log.info("order %(n)s", {"m": 1})',
            r"\nINFO:agent:order %\(n\)s .*m=1",
        ),
        ("%(levelname)s:%(name)s:%(message)s", 'log.info("order %r", Bad())', r"\nINFO:agent:order %r .*RuntimeError"),
        (
            "%(request_id)s %(message)s",
            'log.info("ordered", extra={"dish": "soup"})',
            r" INFO \[\d+\] agent: ordered .*dish=soup \(its formatter failed with ValueError: .*'request_id'\)",
        ),
    ],
)
async def test_a_format_that_fails_loses_nothing(tmp_path: Path, form: str, call: str, shown: str) -> None:
    code = f'    logging.basicConfig(level="INFO", format="{form}")\n'
    with running_server(app=agent(tmp_path, call, code), workers=1) as server:
        await converse(server)
        server.wait_for_output(shown)


async def test_a_level_alone_keeps_the_form(tmp_path: Path) -> None:
    """With `--log-format json`, `basicConfig(level=...)` changes the level; every line stays JSON."""
    app = agent(tmp_path, 'log.debug("deep"); logging.info("root")', "    logging.basicConfig(level=logging.DEBUG)\n")
    with running_server("--log-format", "json", app=app, workers=1) as server:
        await converse(server)
        assert {"deep", "root", "conversation ended"} <= {record["message"] for record in records(server)}


@pytest.mark.parametrize("name", ["httpx", "httpx2", "httpcore"])
async def test_requests_of_http_clients_are_not_logged(tmp_path: Path, name: str) -> None:
    turn = f'logging.getLogger("{name}").info("HTTP Request"); logging.getLogger("{name}").warning("slow")'
    with running_server("--log-format", "json", app=agent(tmp_path, turn), workers=1) as server:
        await converse(server)
        assert [record["message"] for record in records(server) if record["logger"] == name] == ["slow"]


async def test_every_line_is_json_from_start_to_stop(tmp_path: Path) -> None:
    """Also of --debug, of --disable-auth, and warnings."""
    app = agent(tmp_path, 'warnings.warn("careful")')
    options = ("--log-format", "json", "--debug", "--log-level", "debug", "--disable-auth")
    with running_server(*options, app=app, workers=2, api_key=None) as server:
        async with connect(server.url, api_key=None) as websocket:
            await websocket.send(init_message("conv_1"))
            await websocket.send(transcript_message("hello"))
            await read_answer(websocket)
        found = records(server)
    messages = [record["message"] for record in found]
    (started,) = [record for record in found if record["message"] == "started"]
    assert started["version"]
    assert started["workers"] == 2
    assert started["addresses"] == [server.url]
    assert "control_socket" in started
    assert any(message.startswith("authentication is disabled") for message in messages)
    assert any(message.startswith("[SpeechEngine] session initialized") for message in messages)
    assert messages[-1] == "stopped"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--port", "x"), 2),
        (("--no-such-option",), 2),
        (("missing_module_of_tests",), 3),
        (("--fd", "99"), 2),
        (("--log-config", "missing.toml"), 2),
    ],
)
@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_error_at_the_start_is_json(args: tuple[str, ...], code: int, how: str) -> None:
    form = ("--log-format=json",) if how == "option" else ()
    done = start(*args, *form, env={} if form else {"SE_SERVER_LOG_FORMAT": "json"})
    assert done.returncode == code
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert found[-1]["level"] == "error"
    assert not found[-1]["message"].startswith("se-server:")


def test_a_failing_import_is_json_with_its_traceback(tmp_path: Path) -> None:
    done = start(str(agent(tmp_path, more="    raise ValueError('half a deploy')\n")), "--log-format", "json")
    assert done.returncode == 3
    (error,) = [json.loads(line) for line in done.stderr.splitlines() if "half a deploy" in line]
    assert error["message"].endswith("raised ValueError: half a deploy")
    assert error["exception"].startswith("Traceback (most recent call last):\n")


TOML = """
[formatters.own]
format = "OWN %(levelname)s %(name)s %(message)s (%(conversation_id)s %(event_id)s)"
[handlers.own]
class = "logging.FileHandler"
filename = "{}"
formatter = "own"
[root]
handlers = ["own"]
level = "INFO"
[loggers.agent]
level = "DEBUG"
"""


@pytest.mark.parametrize("form", ["toml", "json"])
async def test_a_log_config_is_applied(tmp_path: Path, form: str) -> None:
    config, log = tmp_path / f"log.{form}", tmp_path / "own.log"
    text = TOML.format(log)
    if form == "json":
        tomllib = pytest.importorskip("tomllib")
        text = json.dumps(tomllib.loads(text))
    config.write_text(text)
    with running_server("--log-config", str(config), app=agent(tmp_path, 'log.debug("deep")'), workers=1) as server:
        await converse(server)
        server.stop()
    lines = log.read_text().splitlines()
    assert "OWN DEBUG agent deep (conv_1 1)" in lines
    assert any(line.startswith("OWN INFO se_server.conversations conversation ended") for line in lines)
    assert any(line.startswith("OWN INFO se_server.server started") for line in lines)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.toml", "handlers = [", "is not valid TOML"),
        ("log.json", "{", "is not valid JSON"),
        ("log.json", "[]", "is not an object"),
        ("log.toml", '[handlers.own]\nclass = "missing.Handler"', "does not configure logging"),
        ("log.toml", 'port = "abc"', "has port, which logging.config.dictConfig does not know; known are version"),
        ("log.toml", '[root]\nlevl = "INFO"', "has levl in \\[root\\], which .*; did you mean level"),
        ("log.toml", "[loggers.se_server.door]", 'has door in .*; quote the name: \\[loggers."se_server.door"\\]'),
        ("log.toml", "", None),
    ],
)
def test_a_wrong_log_config_is_one_sentence(tmp_path: Path, name: str, text: str, said: str | None) -> None:
    path = tmp_path / name
    path.write_text(text)
    done = start("--log-config", str(path), "--check", env={"ELEVENLABS_API_KEY": TEST_API_KEY})
    assert done.returncode == (0 if said is None else 2)
    assert said is None or re.fullmatch(rf"se-server: --log-config: {re.escape(str(path))} {said}.*\n", done.stderr)


# --- floods ---


@pytest.mark.parametrize("debug", [(), ("--debug",)])
@pytest.mark.parametrize("message", ['{"type":"error","message":"%s"}', '{"type":"no such type %s"}', '{"type":"%s'])
async def test_a_flood_of_one_conversation_is_summed_up(tmp_path: Path, message: str, debug: tuple[str, ...]) -> None:
    """Its id of 60 kB is cut, its lines are few, and their number is logged at its end."""
    app = agent(tmp_path, "await asyncio.sleep(0.5)")
    with running_server(*debug, "--hang-timeout-s", "1", app=app, workers=1) as server:
        (worker,) = server.worker_pids()
        async with connect(server.url, max_size=None) as websocket:
            await websocket.send('{"type":"init","conversation_id":"' + "\x7f" * 60_000 + '"}')
            await websocket.send(transcript_message("hello"))
            for _ in range(600):
                await websocket.send(message.replace("%s", "\x9b" * 500))
            assert spoken(await read_answer(websocket)) == "spoken"
        server.wait_for_output("conversation ended: ")
        assert server.worker_pids() == [worker]
        lines = [line for line in server.output().splitlines() if "7f" in line]
        assert len(lines) < 60
        assert max(map(len, lines)) < 2000  # the id and the reason, each cut to 128 escaped characters
        assert all(line.isprintable() for line in lines)
        if "SpeechEngine" in server.output() or "no such" not in message:
            assert re.search(r"\d+ more (of these|log lines) were left out", server.output())


@pytest.mark.parametrize("form", ["json", "text"])
async def test_errors_made_of_what_was_said_are_cut(tmp_path: Path, form: str) -> None:
    """A look-up that fails, the error of an error, and a text of many lines: 200 KB in each of five turns."""
    turn = """
        try:
            raise ValueError("\\n".join(transcript[-1].content[:50_000]))
        except ValueError:
            {}[transcript[-1].content]
    """
    with running_server("--log-format", form, app=agent(tmp_path, turn), workers=1) as server:
        await converse(server, *["\x1bé" * 60_000] * 5)
        server.stop()
        log = server.output()
    assert log.count("KeyError: ") >= 10
    assert 5_000 < len(log) < 1_000_000
    assert "characters ...]" in log
    assert "on_transcript" in log


BROKEN = {
    "handler": "logging.getLogger().addHandler(Broken())",
    "filter": "logging.getLogger('se_server.conversations').addFilter(fail)",
    "factory": "logging.setLogRecordFactory(fail)",
}


@pytest.mark.parametrize("leaves", [False, True], ids=["fails", "exits"])
@pytest.mark.parametrize("part", BROKEN)
async def test_logging_that_fails_ends_no_conversation(tmp_path: Path, part: str, leaves: bool) -> None:
    """The records of the server go to stderr then, where the first failure is named."""
    more = f"""
    def fail(*args, **kwargs): {"sys.exit(3)" if leaves else "raise ValueError('broken')"}
    class Broken(logging.Handler):
        emit = fail
    {BROKEN[part]}
"""
    app = agent(tmp_path, "if transcript[-1].content == 'fail': raise TypeError('the turn')", more)
    with running_server("--log-format", "json", "--debug", app=app, workers=1) as server:
        assert await converse(server, "hello", "fail", "hello") == [
            "spoken",
            " ",
            "spoken",
        ]  # a blank: the turn is over
        assert await converse(server) == ["spoken"]
        lines = records(server)
    (failure, *_) = [line for line in lines if line["logger"] == "se_server.log"]
    assert re.search(f"{part}.* of the program's logging failed with (ValueError|SystemExit) at", failure["message"])
    assert "a bug of se-server" not in server.output()


async def test_warnings_that_are_not_captured_have_their_lines(tmp_path: Path) -> None:
    app = agent(tmp_path, "warnings.warn('careful'); log.info('next')", "    logging.captureWarnings(False)\n")
    with running_server(app=app, workers=1) as server:
        await converse(server)
        server.stop()
        assert re.search(r"UserWarning: careful\n\S+ INFO", server.output())
