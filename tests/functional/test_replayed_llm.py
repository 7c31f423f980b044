"""The LLM of a recording in the place of the clients of providers: a replay, and its test, need no provider."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from se_server.testing import replay
from se_server.testing.recorded_llm import KNOWN, _find
from tests.functional.processes import needs_proc, write_agent
from tests.functional.recording import recording_server
from tests.helpers import START_TIMEOUT_S, connect, init_message, read_answer, spoken, transcript_message
from tests.providers import Script, provider_in_thread

TEXT = "It is sunny in Rome."
AGENT = """
    import os
    import anthropic
    import openai
    OPENAI, ANTHROPIC = os.environ.get("OPENAI", "http://127.0.0.1:9"), os.environ.get("ANTHROPIC", "http://127.0.0.1:9")
    client = openai.AsyncOpenAI(api_key="none", base_url=OPENAI, max_retries=0)
    other = anthropic.AsyncAnthropic(api_key="none", base_url=ANTHROPIC, max_retries=0)
    ASKED = dict(model="m", messages=[{"role": "user", "content": "hi"}])

    async def texts(stream):
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "chat":
            await session.send_response(await client.chat.completions.create(**ASKED, stream=True))
        elif said == "own loop":
            await session.send_response(texts(await client.chat.completions.create(**ASKED, stream=True)))
        elif said == "responses":
            await session.send_response(await client.responses.create(model="m", input="hi", stream=True))
        elif said == "messages":
            await session.send_response(await other.messages.create(**ASKED, max_tokens=99, stream=True))
        elif said == "texts":
            async with other.messages.stream(**ASKED, max_tokens=99) as stream:
                await session.send_response(stream.text_stream)
"""
SAID = ("chat", "own loop", "responses", "messages", "texts")


async def _talk(url: str, *said: str) -> None:
    async with connect(url) as websocket:
        await websocket.send(init_message("conv_llm"))
        for number, words in enumerate(said, 1):
            await websocket.send(transcript_message(words, event_id=number))
            assert spoken(await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)) == TEXT


@needs_proc
def test_clients_of_providers_get_the_recorded_streams(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with provider_in_thread(Script(text=TEXT, tokens_per_s=50)) as provider:
        env = {"OPENAI": provider.base_url("openai"), "ANTHROPIC": provider.base_url("anthropic")}
        with recording_server(tmp_path, "full", app=app, workers=1, env=env) as flight:
            asyncio.run(_talk(flight.server.url, *SAID))
            test = flight.ctl("record", "conv_llm", "--as-test", "--to", str(tmp_path))
    (path,) = tmp_path.glob("*.jsonl")
    assert replay(path, str(app)).outcomes == ["failed"] * len(SAID)
    held = replay(path, str(app), llm="auto")
    assert held.differences == []
    assert [turn.text for turn in held.turns] == [TEXT] * len(SAID)
    named = ["agent:client.chat.completions.create", "agent:client.responses.create", "agent:other.messages.create"]
    assert replay(path, str(app), llm=named).outcomes == [*["answered"] * 4, "failed"]
    # The test of the conversation passes as it stands, without a provider.
    options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:asyncio")
    command = [sys.executable, "-m", "pytest", "-q", *options, test.stdout.strip()]
    shown = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=50).stdout
    assert "1 passed" in shown, shown


GOOGLE = """
    import os
    from google import genai
    OPTIONS = {"base_url": os.environ.get("GEMINI", "http://127.0.0.1:9"), "api_version": "v1beta"}
    client = genai.Client(api_key="none", http_options=OPTIONS)
    ASKED = dict(model="m", contents="hi")

    async def texts(stream):
        async for chunk in stream:
            if chunk.text:
                yield chunk.text

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "stream":
            await session.send_response(await client.aio.models.generate_content_stream(**ASKED))
        elif said == "own loop":
            await session.send_response(texts(await client.aio.models.generate_content_stream(**ASKED)))
        elif said == "chat":
            chat = client.aio.chats.create(model="m")
            await session.send_response(await chat.send_message_stream("hi"))
        elif said == "plain":
            await session.send_response(client.models.generate_content_stream(**ASKED))
"""
GOOGLE_SAID = ("stream", "own loop", "chat", "plain")


@needs_proc
def test_googles_client_gets_the_recorded_streams(tmp_path: Path) -> None:
    pytest.importorskip("google.genai")
    app = write_agent(tmp_path / "agent.py", GOOGLE)
    with (
        provider_in_thread(Script(text=TEXT, tokens_per_s=50)) as provider,
        recording_server(tmp_path, "full", app=app, workers=1, env={"GEMINI": provider.base_url("gemini")}) as flight,
    ):
        asyncio.run(_talk(flight.server.url, *GOOGLE_SAID))
        path = Path(flight.ctl("record", "conv_llm").stdout.strip())
    assert "answered" not in replay(path, str(app)).outcomes
    held = replay(path, str(app), llm="auto")
    assert held.differences == []
    assert [turn.text for turn in held.turns] == [TEXT] * len(GOOGLE_SAID)


@pytest.mark.parametrize("name", KNOWN)
def test_known_clients_are_where_they_are_looked_up(name: str) -> None:
    holder, last, function = _find(name, "")
    assert getattr(holder, last) is function


LATE = """
    async def ask(question):
        raise OSError("no provider here")

    async def on_transcript(transcript, session):
        await session.send_response(await ask("first"), final=False)
        await session.send_response(await ask("second"))
"""


def test_streams_open_as_late_as_they_did(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "late_agent.py", LATE)
    said = {"type": "user_transcript", "event_id": 1, "user_transcript": [{"role": "user", "content": "hi"}]}
    answer = {"type": "agent_response", "event_id": 1, "is_final": False}
    turn = {"event_id": 1, "outcome": "answered", "first_text_s": 1.0, "texts": 2}
    lines: list[dict[str, object]] = [
        {"t_s": 0, "direction": "out", "kind": "open"},
        {"t_s": 0.5, "direction": "out", "kind": "text", "text": json.dumps(said)},
        {"t_s": 1.4, "direction": "note", "kind": "stream", "event_id": 1},  # the provider took 0.9 s to answer
        {"t_s": 1.5, "direction": "note", "kind": "llm", "event": "It rains "},
        {"t_s": 1.5, "direction": "in", "kind": "text", "text": json.dumps({**answer, "content": "It rains "})},
        {"t_s": 2.5, "direction": "note", "kind": "stream", "event_id": 1},
        {"t_s": 2.6, "direction": "note", "kind": "llm", "event": "in Rome"},
        {"t_s": 2.6, "direction": "in", "kind": "text", "text": json.dumps({**answer, "content": "in Rome"})},
        {"t_s": 2.6, "direction": "note", "kind": "turn", **turn},
    ]
    path = tmp_path / "late.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    held = replay(path, str(app), llm="late_agent:ask")
    assert held.differences == []
    assert held.turns[0].first_text_s == pytest.approx(1.0, abs=0.01)
    assert held.turns[0].text == "It rains in Rome"
