"""The REST clients against a server that behaves like the API."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pydantic
import pytest

from se_server.errors import ApiError, ConfigError, NotFound
from se_server.sdk.client import AsyncElevenLabs
from se_server.sdk.models import OMIT, SpeechEngineConfig
from se_server.sdk.resource import SpeechEngineResource
from tests.fake_api import FakeApi
from tests.unit.sdk.conftest import Clients

WS_URL = "wss://agent.example/ws"


async def test_get_returns_a_resource_with_the_whole_config(clients: Clients) -> None:
    engine_id = clients.api.add_engine(name="Reception")
    engine = await clients.result(clients.make().speech_engine.get(engine_id))
    assert isinstance(engine, SpeechEngineResource)
    assert engine.engine_id == engine_id
    assert engine.config.name == "Reception"
    assert engine.config.tts.pronunciation.locators[0].id == "p1"
    assert engine.config["tts"]["pronunciation"]["locators"][0]["id"] == "p1"


async def test_create_sends_only_the_given_fields(clients: Clients) -> None:
    engine = await clients.result(
        clients.make().speech_engine.create(
            speech_engine=SpeechEngineConfig(ws_url=WS_URL, request_headers={"X-Caller": {"variable_name": "caller"}}),
            name="Reception",
            tts=None,
            cascade_timeout_seconds=8,
        )
    )
    assert clients.api.requests[-1].body == {
        "speech_engine": {"ws_url": WS_URL, "request_headers": {"X-Caller": {"variable_name": "caller"}}},
        "name": "Reception",
        "tts": None,
        "cascade_timeout_seconds": 8,
    }
    assert engine.engine_id in clients.api.engines
    assert engine.config.cascade_timeout_seconds == 8


async def test_every_documented_keyword_of_create_is_sent(clients: Clients) -> None:
    fields = {
        "speech_engine": {"ws_url": WS_URL},
        "name": "n",
        "asr": {"quality": "high"},
        "tts": {"voice_id": "v"},
        "turn": {"turn_timeout": 3},
        "vad": {"background_voice_detection": True},
        "conversation": {"max_duration_seconds": 60},
        "privacy": {"record_voice": False},
        "call_limits": {"daily_limit": 10},
        "auth": {"enable_auth": True},
        "language": "de",
        "tags": ["a", "b"],
        "overrides": {"custom_llm_extra_body": True},
        "cascade_timeout_seconds": 2.5,
    }
    await clients.result(clients.make().speech_engine.create(**fields))
    assert clients.api.requests[-1].body == fields


async def test_update_sends_only_the_given_fields(clients: Clients) -> None:
    engine_id = clients.api.add_engine(name="old", language="en")
    engine = await clients.result(clients.make().speech_engine.update(engine_id, name="new", language=OMIT))
    assert clients.api.requests[-1].method == "PATCH"
    assert clients.api.requests[-1].body == {"name": "new"}
    assert (engine.config.name, engine.config.language) == ("new", "en")


async def test_update_sends_overrides_and_vad(clients: Clients) -> None:
    engine_id = clients.api.add_engine()
    changes = {"overrides": {"first_message": True}, "vad": {"background_voice_detection": True}}
    engine = await clients.result(clients.make().speech_engine.update(engine_id, **changes))
    assert clients.api.requests[-1].body == changes
    assert engine.config.vad.background_voice_detection is True


async def test_duplicate_returns_the_copy(clients: Clients) -> None:
    engine_id = clients.api.add_engine(name="Reception", language="de")
    client = clients.make()
    copy = await clients.result(client.speech_engine.duplicate(engine_id))
    assert clients.api.requests[-1].path == f"/v1/speech-engine/{engine_id}/duplicate"
    assert clients.api.requests[-1].body == {}
    assert copy.engine_id not in {engine_id, None}
    assert (copy.config.name, copy.config.language) == ("Reception (copy)", "de")
    named = await clients.result(client.speech_engine.duplicate(engine_id, name="Bar"))
    assert named.config.name == "Bar"
    with pytest.raises(NotFound):
        await clients.result(client.speech_engine.duplicate("seng_none"))


async def test_the_record_of_a_conversation(clients: Clients) -> None:
    clients.api.records["conv_1"] = {
        "conversation_id": "conv_1",
        "agent_id": "seng_1",
        "status": "done",
        "transcript": [{"role": "user", "message": "hi"}],
        "metadata": {"termination_reason": "Speech Engine generation failed"},
    }
    client = clients.make()
    assert client.agents is client.conversational_ai
    record = await clients.result(client.agents.conversations.get("conv_1"))
    assert record.metadata.termination_reason == "Speech Engine generation failed"
    assert record.transcript[0].message == "hi"
    assert record.analysis is None
    assert "hi" not in repr(record)
    await clients.result(client.agents.conversations.get("conv_1", format="opentelemetry"))
    assert clients.api.requests[-1].query == {"format": "opentelemetry"}
    with pytest.raises(NotFound):
        await clients.result(client.conversational_ai.conversations.get("conv_2"))


async def test_delete_removes_the_engine(clients: Clients) -> None:
    engine_id = clients.api.add_engine()
    client = clients.make()
    assert await clients.result(client.speech_engine.delete(engine_id)) is None
    with pytest.raises(NotFound):
        await clients.result(client.speech_engine.delete(engine_id))


async def test_list_gives_one_page(clients: Clients) -> None:
    for number in range(3):
        clients.api.add_engine(name=f"engine {number}")
    page = await clients.result(clients.make().speech_engine.list(page_size=2, sort_by="name", sort_direction="asc"))
    assert [engine.name for engine in page.speech_engines] == ["engine 0", "engine 1"]
    assert page.has_more is True
    assert clients.api.requests[-1].query == {"page_size": "2", "sort_by": "name", "sort_direction": "asc"}
    page = await clients.result(clients.make().speech_engine.list(page_size=2, cursor=page.next_cursor))
    assert [engine.name for engine in page.speech_engines] == ["engine 2"]
    assert (page.has_more, page.next_cursor) == (False, None)


async def test_iter_goes_through_all_pages(clients: Clients) -> None:
    ids = [clients.api.add_engine(name=name) for name in ("a1", "b", "a2", "a3", "a4", "a5")]
    found = await clients.all(clients.make().speech_engine.iter(page_size=2, search="a"))
    assert [engine.speech_engine_id for engine in found] == [ids[0], *ids[2:]]
    assert [request.query.get("cursor") for request in clients.api.requests] == [None, "2", "4"]


async def test_iter_stops_when_the_api_repeats_a_page(clients: Clients) -> None:
    for _ in range(2):
        clients.api.answer_next(body={"speech_engines": [], "next_cursor": "same", "has_more": True})
    with pytest.raises(ApiError, match="twice"):
        await clients.all(clients.make().speech_engine.iter())


async def test_browser_tokens_have_the_published_names(clients: Clients) -> None:
    engine_id = clients.api.add_engine()
    conversations = clients.make().conversational_ai.conversations
    token = await clients.result(conversations.get_webrtc_token(agent_id=engine_id, participant_name="Ann"))
    assert (token.token, token.conversation_id) == (f"webrtc-for-{engine_id}", "conv_1")
    assert clients.api.requests[-1].query == {"agent_id": engine_id, "participant_name": "Ann"}
    url = await clients.result(conversations.get_signed_url(agent_id=engine_id, include_conversation_id=True))
    assert url.signed_url.endswith(f"{engine_id}?signature=s")
    assert clients.api.requests[-1].query == {"agent_id": engine_id, "include_conversation_id": "true"}
    assert "webrtc-for" not in repr(token)
    assert "signature" not in repr(url)


@pytest.mark.parametrize("value", [1.99, 15.01, float("nan"), 0, -3])
async def test_cascade_timeout_is_checked_before_sending(clients: Clients, value: float) -> None:
    engines = clients.make().speech_engine
    with pytest.raises(ValueError, match=f"cascade_timeout_seconds.*{value}"):
        await clients.result(engines.create(speech_engine={"ws_url": WS_URL}, cascade_timeout_seconds=value))
    with pytest.raises(ValueError, match="cascade_timeout_seconds"):
        await clients.result(engines.update("seng_1", cascade_timeout_seconds=value))
    assert clients.api.requests == []


@pytest.mark.parametrize("value", [0, 101])
async def test_page_size_is_checked_before_sending(clients: Clients, value: int) -> None:
    with pytest.raises(ValueError, match=f"page_size must be between 1 and 100, not {value}"):
        await clients.result(clients.make().speech_engine.list(page_size=value))
    with pytest.raises(TypeError, match="page_size is a number, not str"):
        await clients.result(clients.make().speech_engine.list(page_size=str(value)))
    assert clients.api.requests == []


@pytest.mark.parametrize("engine_id", ["../../v1/user", "a/b", "a?b=c#d", "ä b", "%2e%2e"])
async def test_no_id_can_change_the_path(clients: Clients, engine_id: str) -> None:
    clients.api.engines[engine_id] = {"speech_engine_id": engine_id}
    engine = await clients.result(clients.make().speech_engine.get(engine_id))
    assert engine.engine_id == engine_id
    assert clients.api.requests[-1].path.count("/") == 3


@pytest.mark.parametrize("engine_id", ["", "  ", ".", ".."])
async def test_an_id_that_is_none_is_refused(clients: Clients, engine_id: str) -> None:
    client = clients.make()
    for call in (client.speech_engine.get, client.speech_engine.update, client.speech_engine.delete):
        with pytest.raises(ValueError, match="speech_engine_id"):
            await clients.result(call(engine_id))
    with pytest.raises(ValueError, match="agent_id"):
        await clients.result(client.conversational_ai.conversations.get_signed_url(agent_id=engine_id))
    assert clients.api.requests == []


async def test_values_may_have_model_dump_at_any_depth(clients: Clients) -> None:
    class Voice(pydantic.BaseModel):
        voice_id: str
        speed: float = 1.0

    engine = await clients.result(
        clients.make().speech_engine.create(
            speech_engine=SpeechEngineConfig(WS_URL),
            tts=Voice(voice_id="v"),
            conversation={"voices": [Voice(voice_id="w")]},
        )
    )
    assert clients.api.requests[-1].body == {
        "speech_engine": {"ws_url": WS_URL},
        "tts": {"voice_id": "v"},
        "conversation": {"voices": [{"voice_id": "w"}]},
    }
    await clients.result(clients.make().speech_engine.update(engine.engine_id, tts=engine.config.tts))
    assert clients.api.requests[-1].body == {"tts": {"voice_id": "v"}}


@pytest.mark.parametrize(
    "value",
    [object(), b"bytes", "\ud83d", {1: 2}, 1 << 70],
    ids=["object", "bytes", "surrogate", "number as a key", "beyond 64 bits"],
)
async def test_value_outside_json_is_a_type_error(clients: Clients, value: Any) -> None:
    """It names the argument."""
    engines = clients.make().speech_engine
    with pytest.raises(TypeError, match="speech_engine cannot be sent as JSON: "):
        await clients.result(engines.create(speech_engine={"ws_url": value}))
    with pytest.raises(TypeError, match="overrides cannot be sent as JSON: "):
        await clients.result(engines.update("seng_1", name="Agent", overrides={"first_message": value}))
    assert clients.api.requests == []


async def test_environment_key_is_read_at_each_call(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    client = clients.make(api_key=None)
    monkeypatch.setenv("ELEVENLABS_API_KEY", f"  {clients.api.api_key}\n")
    await clients.result(client.speech_engine.list())
    clients.api.api_key = "sk_rotated"
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_rotated")
    await clients.result(client.speech_engine.list())
    assert [request.headers["xi-api-key"] for request in clients.api.requests] == ["sk_0123456789abcdef", "sk_rotated"]


async def test_a_given_key_wins_and_loses_its_blanks(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_other")
    await clients.result(clients.make(api_key=f" {clients.api.api_key}\n").speech_engine.list())


async def test_without_a_key_the_first_call_says_so(clients: Clients) -> None:
    client = clients.make(api_key=None)
    with pytest.raises(ConfigError, match=r"^there is no API key: pass api_key=, or set ELEVENLABS_API_KEY$"):
        await clients.result(client.speech_engine.list())
    assert clients.api.requests == []


@pytest.mark.parametrize("base_url", ["api.elevenlabs.io", "ftp://x", "https://", "https://x/?a=b"])
async def test_base_url_without_an_address_is_refused(clients: Clients, base_url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        clients.make(base_url=base_url)


async def test_base_url_may_have_path_and_final_slash(clients: Clients) -> None:
    clients.api.answer_next(body={"speech_engines": [], "has_more": False})
    await clients.result(clients.make(base_url=f"{clients.api.url}/tenant/").speech_engine.list())
    assert clients.api.requests[-1].path == "/tenant/v1/speech-engine"


async def test_request_options_add_to_one_call(clients: Clients) -> None:
    engine_id = clients.api.add_engine()
    options = {
        "additional_headers": {"X-Trace": "t"},
        "additional_query_parameters": {"q": True},
        "additional_body_parameters": {"extra": 1},
        "chunk_size": 5,
    }
    await clients.result(clients.make().speech_engine.update(engine_id, name="n", request_options=options))
    received = clients.api.requests[-1]
    assert received.headers["x-trace"] == "t"
    assert received.query == {"q": "true"}
    assert received.body == {"name": "n", "extra": 1}
    with pytest.raises(TypeError, match=r"timeout_s.*timeout_in_seconds"):
        await clients.result(clients.make().speech_engine.get(engine_id, request_options={"timeout_s": 1}))


async def test_given_http_client_is_never_closed(clients: Clients) -> None:
    headers = {"x-mine": "yes"}
    theirs = httpx.AsyncClient(headers=headers) if clients.is_async else httpx.Client(headers=headers)
    client = clients.make(httpx_client=theirs, timeout=None)
    await clients.result(client.speech_engine.list())
    assert clients.api.requests[-1].headers["x-mine"] == "yes"
    await clients.close(client)
    assert not theirs.is_closed
    await clients.result(theirs.aclose() if clients.is_async else theirs.close())


async def test_a_client_is_a_context_manager(clients: Clients) -> None:
    made = clients.make()
    if clients.is_async:
        async with made as client:
            assert client is made
            await client.speech_engine.list()
    else:
        with made as client:
            assert client is made
            client.speech_engine.list()
    with pytest.raises(RuntimeError, match="closed"):
        await clients.result(made.speech_engine.list())


async def test_no_connection_outlives_its_call(clients: Clients) -> None:
    clients.api.keep_alive = True
    await clients.result(clients.make().speech_engine.list())
    assert await asyncio.to_thread(clients.api.hung_up.wait, 5)


def test_async_client_outlives_its_event_loop(api: FakeApi) -> None:
    client = AsyncElevenLabs(api_key=api.api_key, base_url=api.url)

    async def count() -> int:
        return len((await client.speech_engine.list()).speech_engines)

    api.add_engine()
    assert [asyncio.run(count()), asyncio.run(count())] == [1, 1]


def test_httpx_is_imported_by_the_first_client() -> None:
    code = """
import sys
import se_server
assert not [name for name in sys.modules if name.startswith("se_server.")], "import se_server loads nothing"
from se_server import AsyncElevenLabs, ElevenLabs, SpeechEngineConfig, SpeechEngineResource
SpeechEngineResource("seng_1")
assert "httpx" not in sys.modules
ElevenLabs()
assert "httpx" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
