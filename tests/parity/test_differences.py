"""Each difference in `differences.py` is one, and there is a test for each."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from tests.parity.conftest import Package
from tests.parity.differences import DIFFERENCES, PAGE, write
from tests.parity.test_server import answer, call, serving
from tests.parity.test_sessions import Socket, echo, session_of, transcript


def test_the_page_lists_the_differences() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == write(page), "python -m tests.parity.differences writes the page"


def test_each_difference_has_a_test() -> None:
    assert [f"test_{each.key}" for each in DIFFERENCES if f"test_{each.key}" not in globals()] == []


async def test_loggers_have_other_names(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await session_of(package, Socket()).send_response("x")
    expected = "se_server.session" if package.is_ours else "elevenlabs.speech_engine"
    assert [record.name for record in caplog.records] == [expected]


async def test_messages_are_compact(package: Package) -> None:
    raw: list[str] = []

    class Raw(Socket):
        async def send(self, data: str) -> None:
            raw.append(data)

    session = session_of(package, Raw(transcript("é")))
    session.on("user_transcript", echo(session))
    await session.run()
    message = {"type": "agent_response", "content": "echo: é", "event_id": 1, "is_final": False}
    assert json.loads(raw[0]) == message
    compact = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    assert raw[0] == (compact if package.is_ours else json.dumps(message))


async def test_frames_are_not_compressed(package: Package) -> None:
    def make(server: Any, port: int) -> Any:
        return server(port=port, disable_auth=True)

    async with serving(package, make) as port, call(port, compression="deflate") as api:
        assert bool(api.protocol.extensions) is not package.is_ours


def test_private_attributes_differ(package: Package) -> None:
    session = session_of(package, Socket())
    assert hasattr(session, "_ws") is not package.is_ours
    assert hasattr(session, "headers") is package.is_ours


def test_messages_cannot_be_changed(package: Package) -> None:
    message = package.module("speech_engine").ConversationMessage(role="user", content="a")
    if package.is_ours:
        with pytest.raises(AttributeError):
            message.content = "b"
    else:
        message.content = "b"
    assert message.content == ("a" if package.is_ours else "b")


def test_unknown_events_are_refused(package: Package) -> None:
    session = session_of(package, Socket())
    if package.is_ours:
        with pytest.raises(ValueError, match="user_transcript"):
            session.on("user_transcripts", print)
    else:
        session.on("user_transcripts", print)


def test_unknown_keywords_are_refused(package: Package) -> None:
    server = package.module("speech_engine").SpeechEngineServer
    if package.is_ours:
        with pytest.raises(TypeError, match="on_transcript"):
            server(on_transcripts=print)
    else:
        server(on_transcripts=print)


async def test_closing_a_session_is_an_event(package: Package) -> None:
    events: list[str] = []
    session = session_of(package, Socket({"type": "init", "conversation_id": "c"}))
    session.on("close", lambda: events.append("close")).on("disconnected", lambda: events.append("disconnected"))
    session.on("init", lambda conversation_id: session.close())
    await session.run()
    assert events == (["close"] if package.is_ours else [])


async def test_a_bad_entry_does_not_end_the_conversation(package: Package) -> None:
    bad = transcript("pizza", 1)
    bad["user_transcript"].insert(0, {"role": "agent", "content": None})
    ws = Socket(bad)
    session, errors = session_of(package, ws), []
    session.on("user_transcript", echo(session)).on("error", errors.append)
    if package.is_ours:
        await session.run()
        assert ws.sent[0]["content"] == "echo: pizza"
        assert len(errors) == 1
    else:
        with pytest.raises(ValueError, match="content"):
            await session.run()


async def test_an_answered_transcript_is_not_answered_again(package: Package) -> None:
    ws, heard = Socket(transcript(), transcript()), []
    session = session_of(package, ws)
    session.on("user_transcript", heard.append).on("user_transcript", echo(session))
    await session.run()
    assert len(heard) == (1 if package.is_ours else 2)


async def test_a_silent_handler_is_finalised(package: Package) -> None:
    ws = Socket(transcript())
    session = session_of(package, ws)
    session.on("user_transcript", lambda transcript: None)
    await session.run()
    expected = [(" ", False), ("", True)] if package.is_ours else []
    assert [(message["content"], message["is_final"]) for message in ws.sent] == expected


async def test_debug_prints_no_texts(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(package, Socket(transcript("pizza")), debug=True)
    session.on("user_transcript", echo(session))
    await session.run()
    out = capsys.readouterr().out
    assert "[SpeechEngine]" in out
    assert ("echo: pizza" in out) is not package.is_ours


async def test_both_answer_alike_over_their_own_servers(package: Package) -> None:
    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(f"echo: {transcript[-1].content}")

    def make(server: Any, port: int) -> Any:
        return server(port=port, disable_auth=True, on_transcript=on_transcript)

    async with serving(package, make) as port, call(port) as api:
        await api.send(json.dumps(transcript("pizza", 9)))
        assert [(each["content"], each["event_id"]) for each in await answer(api)] == [("echo: pizza", 9), ("", 9)]
        await asyncio.sleep(0)
