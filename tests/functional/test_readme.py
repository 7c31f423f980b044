"""The examples of README.md run: its agents, its engine, its web server, its test."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import se_server
from se_server import demo, testing
from se_server.conversation.handlers import HANDLER_NAMES
from se_server.server.config.app import LIFECYCLE_NAMES
from se_server.simulator.caller import Caller
from tests.fake_api import FakeApi, running_api
from tests.helpers import TEST_API_KEY
from tests.providers import Script, running_provider

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """Return the block of the page that begins with `# name`."""
    found = re.findall(rf"^```python\n(# {re.escape(name)}\n.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def run(name: str) -> ModuleType:
    module = ModuleType(name.removesuffix(".py"))
    exec(compile(example(name), name, "exec"), vars(module))
    return module


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setenv("ELEVENLABS_API_KEY", TEST_API_KEY)
    with running_api(TEST_API_KEY) as api:
        client = functools.partial(se_server.AsyncElevenLabs, base_url=api.url)
        monkeypatch.setattr(se_server, "AsyncElevenLabs", client)
        yield api


async def test_the_agent_speaks_what_the_model_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    async with running_provider(Script(text=("Good ", "morning."))) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url("openai"))
        module = run("app.py")
        async with testing.call(module) as caller:
            reply = await caller.say("Hello?")
        await module.llm.close()
    assert reply.text == "Good morning."


def test_the_table_has_each_handler_with_its_arguments() -> None:
    rows = dict(re.findall(r"^\| `(on_\w+)\(([\w, ]*)\)` \|", README, re.MULTILINE))
    assert set(rows) == {*HANDLER_NAMES, *LIFECYCLE_NAMES}
    source = "".join(f"def {name}({names}):\n    ran.append('{name}')\n" for name, names in rows.items())
    module = ModuleType("every_handler")
    ran: list[str] = []
    vars(module)["ran"] = ran
    exec(source, vars(module))

    async def talk() -> None:
        async with testing.call(module) as caller:
            await caller.say("Hello?")
            await caller.hang_up()

    asyncio.run(talk())
    assert ran == ["on_startup", "on_init", "on_transcript", "on_close", "on_shutdown"]


def test_the_engine_is_created_with_its_address(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    run("create_engine.py")
    created = api.requests[-1]
    assert (created.method, created.path) == ("POST", "/v1/speech-engine")
    assert created.body == {"name": "My agent", "speech_engine": {"ws_url": "wss://your.host/ws"}}
    assert capsys.readouterr().out.strip() in api.engines
    sent = re.search(r"-d '(.*?)'", README)
    assert sent
    assert json.loads(sent[1]) == created.body


async def test_the_web_server_holds_a_conversation(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    engine = await se_server.AsyncElevenLabs().speech_engine.create(speech_engine={"ws_url": "wss://your.host/ws"})
    monkeypatch.setenv("ENGINE_ID", engine.engine_id)
    config = uvicorn.Config(
        run("web.py").app, host="127.0.0.1", port=0, log_level="critical", ws="websockets-sansio", loop="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())  # without its signal handlers
    try:
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key=TEST_API_KEY) as caller:
            assert (await caller.say("Hello?")).text == "You said: Hello?"
        with pytest.raises(Exception, match="403"):
            async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key="sk_wrong"):
                pass
    finally:
        server.should_exit = True
        await serving


def test_the_test_of_an_agent_passes(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(Path(demo.__file__).read_text(encoding="utf-8"))
    (tmp_path / "test_app.py").write_text(example("test_app.py"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
