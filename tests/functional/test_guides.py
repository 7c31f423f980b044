"""The programs of the tutorial, the how-to pages and the skill file run, with local servers in place of the APIs."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from starlette.testclient import TestClient

import se_server
from se_server import testing
from se_server.simulator.caller import Caller
from tests.fake_api import FakeApi, running_api
from tests.helpers import TEST_API_KEY, running_server
from tests.providers import Script, Tool, running_provider

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Load = Callable[[str, str], ModuleType]


def programs(page: str) -> dict[str, str]:
    """Return the complete programs of a page by their names."""
    return {found[1]: found[2] for found in PROGRAM.finditer((DOCS / page).read_text(encoding="utf-8"))}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a program of a page; those beside it on the page can be imported, too."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("ELEVENLABS_API_KEY", TEST_API_KEY)
    written: set[str] = set()

    def load(page: str, name: str) -> ModuleType:
        for file, code in programs(page).items():
            (tmp_path / file).write_text(code, encoding="utf-8")
            written.add(file.removesuffix(".py"))
        importlib.invalidate_caches()
        return importlib.import_module(name.removesuffix(".py"))

    yield load
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with running_api(TEST_API_KEY) as api:
        for name in ("AsyncElevenLabs", "ElevenLabs"):
            monkeypatch.setattr(se_server, name, functools.partial(getattr(se_server, name), base_url=api.url))
        yield api


async def answer_to(app: object, said: str, **options: Any) -> str:
    async with testing.call(app, **options) as caller:
        return str((await caller.say(said)).text)


# --- agents ---------------------------------------------------------------------------------------------------------


async def test_the_tutorials_agent_knows_the_day(load: Load) -> None:
    module = load("tutorial.md", "app.py")
    assert await answer_to(module, "Are you open on Saturday?") == "On Saturday we are open from ten to two."


@pytest.mark.parametrize(("page", "tests"), [("tutorial.md", 2), ("skill/SKILL.md", 2)])
def test_the_tests_of_a_page_pass(page: str, tests: int, tmp_path: Path) -> None:
    for name in ("app.py", "test_app.py"):
        (tmp_path / name).write_text(programs(page)[name], encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "se_server.testing.plugin", str(tmp_path)]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # faster, and no other plugin is needed
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert f"{tests} passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("page", "name"), [("tutorial.md", "llm_app.py"), ("skill/SKILL.md", "llm_app.py"), ("migrating.md", "agent.py")]
)
async def test_agents_speak_what_the_model_streams(
    page: str, name: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_provider(Script(text=("Good ", "morning."))) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url("openai"))
        module = load(page, name)
        assert await answer_to(module, "Hello?") == "Good morning."
        await module.llm.close()


async def test_the_tool_is_announced_and_its_result_spoken(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_provider(Script(text="Two tables are free.")) as provider:
        provider.answer_next(Script(text="", tools=(Tool("free_tables", '{"day": "Monday"}'),)))
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url("openai"))
        module = load("how-to/tools.md", "tools.py")
        assert await answer_to(module, "On Monday?") == "One moment, I look that up. Two tables are free."
        await module.llm.close()


async def test_a_payment_outlives_the_interruption(load: Load) -> None:
    module = load("how-to/tools.md", "payment.py")
    async with testing.call(module) as caller:
        caller.interrupt("Wait!", after_chars=3)
        await caller.say("Pay, please.")
        await caller.pause(3)
        assert module.running == set()
    assert await answer_to(module, "Pay, please.") == "I pay now. 20 euros are paid"


@pytest.mark.parametrize("fault", [Script(status=500), Script(text="Late.", headers_after_s=5)], ids=["fails", "late"])
async def test_the_second_provider_is_asked(fault: Script, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_provider(Script(text="From the second.")) as provider:
        provider.answer_next(fault)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url("openai"))
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.base_url("anthropic"))
        module = load("how-to/providers.md", "two_providers.py")
        assert await answer_to(module, "Hello?") == "From the second."
        await module.openai.close()
        await module.anthropic.close()


async def test_query_and_header_choose(load: Load) -> None:
    by_query = load("how-to/providers.md", "by_query.py")
    assert await answer_to(by_query, "Hi", path="/ws?model=clever") == "gpt-4o heard: Hi"
    assert await answer_to(by_query, "Hi", path="/ws") == "gpt-4o-mini heard: Hi"
    by_name = load("how-to/first-message.md", "by_name.py")
    assert await answer_to(by_name, "Hi", headers={"X-Customer": "7"}) == "Hello Ms Lovelace! You said: Hi"


async def test_silence_ends_the_conversation_at_last(load: Load) -> None:
    module = load("how-to/first-message.md", "patient.py")
    async with testing.call(module) as caller:
        assert (await caller.say("...")).text == "Are you still there?"
        assert (await caller.say("Yes.")).text == "You said: Yes."
        said = [(await caller.say("...")).text.strip() for _ in range(4)]
    assert said == ["Are you still there?", "", "", "I hang up now. Call again any time!"]


def test_the_redactor_hides_the_name(load: Load) -> None:
    assert load("recording.md", "app.py").hide("Jane is here") == "[name] is here"


# --- the tutorial's commands ----------------------------------------------------------------------------------------


def test_the_tutorials_conversation_is_what_it_shows(tmp_path: Path) -> None:
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    shown = re.search(r'^echo "(.*)" \| se-chat ws://127\.0\.0\.1:3001(/ws)$', page, re.MULTILINE)
    assert shown is not None
    answer = re.search(r"^`(agent> .*?)`", page, re.MULTILINE)
    assert answer is not None
    (tmp_path / "app.py").write_text(programs("tutorial.md")["app.py"], encoding="utf-8")
    with running_server("--path", "/ws", app=tmp_path / "app.py", workers=1) as server:
        chat = Path(sys.executable).with_name("se-chat")
        command = [str(chat), f"ws://127.0.0.1:{server.port}{shown[2]}", "--api-key", TEST_API_KEY]
        ran = subprocess.run(command, input=f"{shown[1]}\n", capture_output=True, text=True, check=False, timeout=30)
    assert answer[1] in ran.stdout.splitlines(), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("page", "name", "sent"),
    [
        (
            "tutorial.md",
            "create_engine.py",
            {
                "name": "Bicycle shop",
                "speech_engine": {"ws_url": "wss://your.host/ws"},
                "overrides": {"first_message": True},
            },
        ),
        (
            "how-to/bridges.md",
            "create_phone_engine.py",
            {
                "name": "My agent on the telephone",
                "speech_engine": {"ws_url": "wss://your.host/ws"},
                "asr": {"user_input_audio_format": "ulaw_8000"},
                "tts": {"agent_output_audio_format": "ulaw_8000"},
            },
        ),
        (
            "how-to/first-message.md",
            "create_greeting_engine.py",
            {"speech_engine": {"ws_url": "wss://your.host/ws"}, "overrides": {"first_message": True}},
        ),
    ],
)
def test_engines_are_created_as_written(
    page: str, name: str, sent: dict[str, Any], load: Load, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "your.host"])
    load(page, name)
    assert api.requests[-1].body == sent


@pytest.mark.parametrize(("page", "name"), [("tutorial.md", "web.py"), ("how-to/web-frameworks.md", "tokens.py")])
def test_browsers_get_a_token_and_no_key(
    page: str, name: str, load: Load, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_ID", engine_id := api.add_engine())
    with TestClient(load(page, name).app) as client:
        answered = client.get("/api/token")
    assert answered.json() == {"token": f"webrtc-for-{engine_id}"}
    assert TEST_API_KEY not in answered.text


# --- web frameworks and bridges -------------------------------------------------------------------------------------


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application; yield its port."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="websockets-sansio", loop="none")
    )
    serving = asyncio.create_task(server._serve())
    try:
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def holds_a_conversation(port: int) -> None:
    async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key=TEST_API_KEY) as caller:
        assert (await caller.say("Hello?")).text == "You said: Hello?"
    with pytest.raises(Exception, match=r"40[13]"):
        async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key="sk_wrong"):
            pass


async def test_starlette_holds_a_conversation(load: Load, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_ID", api.add_engine())
    async with served(load("how-to/web-frameworks.md", "starlette_app.py").app) as port:
        await holds_a_conversation(port)


async def test_aiohttp_holds_a_conversation(load: Load, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_ID", api.add_engine())
    web = pytest.importorskip("aiohttp.web")
    runner = web.AppRunner(load("how-to/web-frameworks.md", "aiohttp_app.py").app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await holds_a_conversation(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class FakeEngine:
    """The API's end of a conversation as audio: it says what it hears, backwards."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.pongs: list[int] = []

    async def handle(self, socket: websockets.ServerConnection) -> None:
        self.began.append(json.loads(await socket.recv()))
        formats = {"user_input_audio_format": "ulaw_8000", "agent_output_audio_format": "ulaw_8000"}
        await self._send(socket, "conversation_initiation_metadata", formats)
        await self._send(socket, "ping", {"event_id": 7})
        async for message in socket:
            event = json.loads(message)
            if event.get("type") == "pong":
                self.pongs.append(event["event_id"])
            elif (audio := base64.b64decode(event["user_audio_chunk"])) == b"stop":
                await self._send(socket, "interruption", {"event_id": 1})
            elif audio == b"bye":
                return
            else:
                await self._send(socket, "audio", {"audio_base_64": base64.b64encode(audio[::-1]).decode()})

    async def _send(self, socket: websockets.ServerConnection, kind: str, event: dict[str, Any]) -> None:
        await socket.send(json.dumps({"type": kind, f"{kind}_event": event}))


@pytest.fixture
async def engine(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine()
    monkeypatch.setenv("ENGINE_ID", "seng_1")
    async with websockets.serve(fake.handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        api.answer_next(body={"signed_url": f"ws://127.0.0.1:{port}/"})
        yield fake


async def test_the_conversation_is_audio_both_ways(load: Load, engine: FakeEngine) -> None:
    module = load("how-to/bridges.md", "engine_audio.py")
    async with module.engine_audio("seng_1") as audio:
        await audio.send(b"abc")
        heard = aiter(audio)
        assert await anext(heard) == b"cba"
        await audio.send(b"stop")
        await audio.send(b"bye")
        assert [more async for more in heard] == [module.INTERRUPTED]
    assert audio.output_format == "ulaw_8000"
    assert engine.began == [{"type": "conversation_initiation_client_data"}]
    assert engine.pongs == [7]


def signature(url: str, form: dict[str, str], token: str) -> str:
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()


async def test_a_call_by_twilio_is_carried(load: Load, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://phone.example")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret-of-twilio")
    app = load("how-to/bridges.md", "phone.py").app
    form = {"CallSid": "CA1", "From": "+15550100"}
    right = signature("https://phone.example/incoming", form, "secret-of-twilio")
    async with served(app) as port, httpx.AsyncClient() as twilio:
        address = f"http://127.0.0.1:{port}/incoming"
        forged = await twilio.post(address, data=form, headers={"X-Twilio-Signature": "forged"})
        assert forged.status_code == 403
        answered = await twilio.post(address, data=form, headers={"X-Twilio-Signature": right})
        found = re.search(r'url="wss://phone\.example(/media)"><Parameter name="secret" value="(.+?)"', answered.text)
        assert found is not None
        assert answered.headers["content-type"].startswith("text/xml")
        start = {"event": "start", "start": {"streamSid": "MZ1", "customParameters": {"secret": found[2]}}}
        async with websockets.connect(f"ws://127.0.0.1:{port}{found[1]}") as call:
            await call.send(json.dumps({"event": "connected"}))
            await call.send(json.dumps(start))
            for audio in (b"abc", b"stop"):
                payload = base64.b64encode(audio).decode()
                await call.send(json.dumps({"event": "media", "media": {"payload": payload}}))
            heard = [json.loads(await call.recv()) for _ in range(2)]
            await call.send(json.dumps({"event": "stop"}))
            await call.wait_closed()
        assert heard == [
            {"event": "media", "streamSid": "MZ1", "media": {"payload": base64.b64encode(b"cba").decode()}},
            {"event": "clear", "streamSid": "MZ1"},
        ]
        # The secret counts once.
        async with websockets.connect(f"ws://127.0.0.1:{port}/media") as other:
            await other.send(json.dumps(start))
            await other.wait_closed()
            assert other.close_code == 1008


class FakeFrame:
    """A frame of any of the two packages: whatever it was made with."""

    def __init__(self, *values: Any, **fields: Any) -> None:
        self.values = values
        self.__dict__.update(fields)


async def test_livekit_audio_goes_both_ways(load: Load, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    rtc = SimpleNamespace(AudioFrame=FakeFrame, AudioStream=object, AudioSource=object, Track=object)
    monkeypatch.setitem(sys.modules, "livekit", SimpleNamespace(rtc=rtc))  # type: ignore[arg-type]
    room, module = load("how-to/bridges.md", "room.py"), load("how-to/bridges.md", "engine_audio.py")
    played: list[Any] = []

    async def capture_frame(frame: FakeFrame) -> None:
        played.append(frame.values)

    async def caller() -> AsyncIterator[Any]:
        for audio in (b"abcd", b"stop", b"bye"):
            yield SimpleNamespace(frame=SimpleNamespace(data=memoryview(audio)))

    voice = SimpleNamespace(capture_frame=capture_frame, clear_queue=lambda: played.append("cleared"))
    async with module.engine_audio("seng_1") as audio:
        await room.to_engine(caller(), audio)
        await room.to_room(audio, voice)
    assert played == [(b"dcba", 16000, 1, 2), "cleared"]


async def test_pipecat_frames_go_both_ways(load: Load, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[Any] = []
    ended = asyncio.Event()

    class Processor:
        async def process_frame(self, frame: Any, direction: Any) -> None: ...

        async def push_frame(self, frame: Any, direction: Any = None) -> None:
            pushed.append(frame)
            if type(frame).__name__ == "EndFrame":
                ended.set()

        async def broadcast_interruption(self) -> None:
            pushed.append("interrupted")

    names = ("CancelFrame", "EndFrame", "Frame", "InputAudioRawFrame", "OutputAudioRawFrame", "StartFrame")
    frames = SimpleNamespace(**{name: type(name, (FakeFrame,), {}) for name in names})
    for name in ("pipecat", "pipecat.frames", "pipecat.processors"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "pipecat.frames.frames", frames)  # type: ignore[arg-type]
    kinds = SimpleNamespace(FrameDirection=object, FrameProcessor=Processor)
    monkeypatch.setitem(sys.modules, "pipecat.processors.frame_processor", kinds)  # type: ignore[arg-type]
    processor = load("how-to/bridges.md", "engine_processor.py").EngineProcessor("seng_1")
    start = frames.StartFrame()
    await processor.process_frame(start, None)
    for audio in (b"abcd", b"stop", b"bye"):
        await processor.process_frame(frames.InputAudioRawFrame(audio=audio), None)
    await asyncio.wait_for(ended.wait(), 10)
    assert pushed[0] is start
    assert (pushed[1].audio, pushed[1].sample_rate) == (b"dcba", 16000)
    assert pushed[2] == "interrupted"
    await processor.process_frame(frames.EndFrame(), None)
