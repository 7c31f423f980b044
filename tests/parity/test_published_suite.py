"""The behaviours that the published SDK's own tests check, under both packages.

Its source distribution has no tests, so they are written here once more, against the public interface alone. What its
tests check of private names (`_extract_text`, `_ASGIWebSocketAdapter`) is checked by its effect.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from tests.parity.conftest import Package
from tests.parity.test_sessions import Socket, echo, session_of, transcript

AGENT = {"role": "agent", "content": "how can I help you today?"}
USER = {"role": "user", "content": "I need a pizza"}


class Conversation:
    """A session over a WebSocket in memory, and what its handlers saw."""

    def __init__(self, package: Package) -> None:
        self.ws = Socket()
        self.session = session_of(package, self.ws)
        self.seen: list[Any] = []

    async def play(self, *messages: Any) -> list[dict[str, Any]]:
        """Receive messages, then lose the connection; return what was sent."""
        self.ws.inbox += messages
        await asyncio.wait_for(self.session.run(), 10)
        return self.ws.sent

    def note(self, name: str) -> Callable[..., None]:
        return lambda *args: self.seen.append((name, *args))

    def hang(self) -> None:
        """Have transcripts handled for ever."""

        async def handler(transcript: Any) -> None:
            self.seen.append("started")
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise

        self.session.on("user_transcript", handler)


@pytest.fixture
def talk(package: Package) -> Conversation:
    return Conversation(package)


def spoken(sent: list[dict[str, Any]]) -> list[tuple[str, Any, bool]]:
    assert all(message["type"] == "agent_response" for message in sent)
    return [(message["content"], message["event_id"], message["is_final"]) for message in sent]


# --- events ---------------------------------------------------------------------------------------------------------


async def test_init_gives_the_conversation_id(talk: Conversation) -> None:
    talk.session.on("init", talk.note("init"))
    assert talk.session.conversation_id is None
    await talk.play({"type": "init", "conversation_id": "conv_42"})
    assert talk.seen == [("init", "conv_42")]
    assert talk.session.conversation_id == "conv_42"


async def test_a_transcript_gives_the_history(talk: Conversation) -> None:
    talk.session.on("user_transcript", talk.note("transcript"))
    await talk.play({"type": "user_transcript", "user_transcript": [AGENT, USER], "event_id": 1})
    [(_, history)] = talk.seen
    assert [(message.role, message.content) for message in history] == [
        ("agent", AGENT["content"]),
        ("user", USER["content"]),
    ]


@pytest.mark.parametrize("last", [transcript("no", 2), {"type": "close"}, None])
async def test_a_running_handler_is_cancelled(talk: Conversation, last: Any) -> None:
    talk.hang()
    await talk.play(transcript(), *([last] if last else []))
    assert talk.seen[:2] == ["started", "cancelled"]


async def test_a_ping_is_answered(talk: Conversation) -> None:
    assert await talk.play({"type": "ping"}) == [{"type": "pong"}]


async def test_close_and_disconnected_exclude_each_other(package: Package) -> None:
    for messages, event in (([{"type": "close"}], "close"), ([], "disconnected")):
        talk = Conversation(package)
        for name in ("close", "disconnected"):
            talk.session.on(name, talk.note(name))
        await talk.play(*messages)
        assert talk.seen == [(event,)]
        assert not talk.session.is_open


async def test_an_error_of_the_api_is_an_exception(talk: Conversation) -> None:
    talk.session.on("error", talk.note("error"))
    await talk.play({"type": "error", "message": "something went wrong"})
    [(_, error)] = talk.seen
    assert isinstance(error, Exception)
    assert str(error) == "something went wrong"


@pytest.mark.parametrize("raw", ["not json", "[1]", '"text"', "42", "null"])
async def test_what_cannot_be_read_is_an_error_event(talk: Conversation, raw: str) -> None:
    talk.session.on("error", talk.note("error"))
    assert await talk.play(raw, {"type": "ping"}) == [{"type": "pong"}]
    assert len(talk.seen) == 1
    assert isinstance(talk.seen[0][1], Exception)


async def test_unknown_messages_are_ignored(talk: Conversation) -> None:
    talk.session.on("error", talk.note("error"))
    assert await talk.play({"type": "unknown_future_event", "data": 1}, {"no": "type"}) == []
    assert talk.seen == []


# --- registering ----------------------------------------------------------------------------------------------------


async def test_once_runs_once_and_last(talk: Conversation) -> None:
    session, seen = talk.session, talk.seen
    removed = talk.note("removed")
    session.once("init", lambda conversation_id: seen.append("once"))
    session.on("init", lambda conversation_id: seen.append("on")).on("init", removed).off("init", removed)
    assert session.off("init", removed) is session
    await talk.play({"type": "init", "conversation_id": "a"}, {"type": "init", "conversation_id": "b"})
    assert seen == ["on", "once", "on"]


async def test_plain_functions_and_coroutines_are_handlers(talk: Conversation) -> None:
    async def coroutine(conversation_id: str) -> None:
        await asyncio.sleep(0)
        talk.seen.append("coroutine")

    talk.session.on("init", coroutine).on("init", lambda conversation_id: talk.seen.append("plain"))
    await talk.play({"type": "init", "conversation_id": "a"})
    assert talk.seen == ["coroutine", "plain"]


async def test_an_exception_of_a_handler_is_an_error_event(talk: Conversation) -> None:
    async def broken(*args: Any) -> None:
        raise LookupError("no such pizza")

    talk.session.on("init", broken).on("user_transcript", broken).on("error", talk.note("error"))
    await talk.play({"type": "init", "conversation_id": "a"}, transcript(), {"type": "ping"})
    assert [str(error) for _, error in talk.seen] == ["no such pizza"] * 2


# --- answers --------------------------------------------------------------------------------------------------------


async def test_a_string_is_text_and_final(talk: Conversation) -> None:
    talk.session.on("user_transcript", echo(talk.session))
    assert spoken(await talk.play(transcript("pizza", 5))) == [("echo: pizza", 5, False), ("", 5, True)]


async def test_a_stream_is_chunks_and_final(talk: Conversation) -> None:
    async def tokens() -> AsyncIterator[str]:
        for token in ("Hello", "", " world"):
            yield token

    async def handler(transcript: Any) -> None:
        await talk.session.send_response(tokens())

    talk.session.on("user_transcript", handler)
    assert spoken(await talk.play(transcript("hi", 3))) == [("Hello", 3, False), (" world", 3, False), ("", 3, True)]


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize(
    "events",
    [
        [
            {"type": "response.created", "response": {}},
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.output_text.delta", "delta": " there"},
            {"type": "response.completed", "response": {}},
        ],
        [
            {"choices": [{"delta": {"role": "assistant"}}]},
            {"choices": [{"delta": {"content": "Hi"}}]},
            {"choices": [{"delta": {"content": " there"}}]},
            {"choices": [{"delta": {}}]},
            {"choices": []},
        ],
        [
            {"type": "message_start", "message": {}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " there"}},
            {"type": "message_stop"},
        ],
        [
            {"candidates": [{"content": {"parts": [{"text": "thinks", "thought": True}, {"text": "Hi"}]}}]},
            {"candidates": [{"content": {"parts": [{"text": " "}, {"text": "there"}]}}]},
            {"candidates": [{"content": {"parts": []}}]},
            {"candidates": []},
        ],
        ["Hi", " there"],
    ],
    ids=["responses", "chat", "anthropic", "gemini", "strings"],
)
async def test_text_is_found_in_the_events_of_providers(talk: Conversation, events: list[Any], as_object: bool) -> None:
    def form(value: Any) -> Any:
        if isinstance(value, list):
            return [form(item) for item in value]
        if isinstance(value, dict) and as_object:
            return SimpleNamespace(**{name: form(item) for name, item in value.items()})
        return value

    async def stream() -> AsyncIterator[Any]:
        for event in form(events):
            yield event

    async def handler(transcript: Any) -> None:
        await talk.session.send_response(stream())

    talk.session.on("user_transcript", handler)
    sent = spoken(await talk.play(transcript()))
    assert "".join(content for content, _, _ in sent) == "Hi there"
    assert [is_final for _, _, is_final in sent].count(True) == 1


async def test_a_stream_that_raises_is_an_error_and_a_final(talk: Conversation) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Hello"
        raise ConnectionError("provider is gone")

    async def handler(transcript: Any) -> None:
        await talk.session.send_response(broken())

    talk.session.on("user_transcript", handler).on("error", talk.note("error"))
    assert spoken(await talk.play(transcript())) == [("Hello", 1, False), ("", 1, True)]
    assert [str(error) for _, error in talk.seen] == ["provider is gone"]


async def test_nothing_is_sent_after_a_close(talk: Conversation) -> None:
    async def tokens() -> AsyncIterator[str]:
        yield "first"
        yield "second"
        talk.session.close()
        yield "third"

    async def handler(transcript: Any) -> None:
        await talk.session.send_response(tokens())

    talk.session.on("user_transcript", handler)
    assert spoken(await talk.play(transcript("hi", 7))) == [("first", 7, False), ("second", 7, False)]
    with pytest.raises(RuntimeError, match="session is closed"):
        await talk.session.send_response("too late")


async def test_an_interrupted_stream_stops(talk: Conversation) -> None:
    gate = asyncio.Event()

    async def tokens() -> AsyncIterator[str]:
        yield "old"
        await gate.wait()
        yield "never"

    async def handler(transcript: Any) -> None:
        await talk.session.send_response(tokens() if transcript[-1].content == "one" else "new")

    talk.session.on("user_transcript", handler)
    sent = spoken(await talk.play(transcript("one", 1), transcript("two", 2)))
    gate.set()
    assert sent == [("old", 1, False), ("new", 2, False), ("", 2, True)]


async def test_a_transcript_of_the_running_turn_is_skipped(talk: Conversation) -> None:
    talk.hang()
    await talk.play(transcript(), transcript(), transcript())
    assert talk.seen == ["started", "cancelled"]


async def test_an_answer_outside_a_handler_is_a_warning(talk: Conversation, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await talk.session.send_response("Hello")
    assert "outside" in caplog.text
    assert "first message" in caplog.text
    assert talk.ws.sent == []


# --- resource and server --------------------------------------------------------------------------------------------

KEY = "sk_test"


def resource_of(package: Package, key: str | None = KEY) -> Any:
    wrapper = None if key is None else SimpleNamespace(get_headers=lambda: {"xi-api-key": key})
    return package.module("speech_engine").SpeechEngineResource("seng_test", wrapper)


async def test_a_resource_makes_sessions(package: Package) -> None:
    resource, ws = resource_of(package), Socket(transcript("hello"))
    session = resource.create_session(ws, debug=False)
    assert isinstance(session, package.module("speech_engine").SpeechEngineSession)
    session.on("user_transcript", echo(session))
    await session.run()
    assert ws.sent[0] == {"type": "agent_response", "content": "echo: hello", "event_id": 1, "is_final": False}
    assert (resource.engine_id, resource.config) == ("seng_test", None)


@pytest.mark.parametrize(
    ("header", "key", "is_valid"),
    [
        (sign_token(KEY, lifetime_s=86_400), KEY, True),
        (f"Bearer {sign_token(KEY, lifetime_s=86_400)}", KEY, True),
        ([sign_token(KEY, lifetime_s=86_400), "other"], KEY, True),
        (sign_token(KEY, lifetime_s=86_400), f"{KEY}_residency_eu", True),
        (sign_token(KEY, lifetime_s=86_400), " sk_test ", True),
        (sign_token("sk_other", lifetime_s=86_400), KEY, False),
        (sign_token(KEY, lifetime_s=-3600), KEY, False),
        (sign_token(KEY, lifetime_s=86_400, iss="someone"), KEY, False),
        (sign_token(KEY, lifetime_s=86_400, sub="someone"), KEY, False),
        (sign_token(KEY, lifetime_s=86_400, exp=None), KEY, False),
        ("a.b", KEY, False),
        ("", KEY, False),
        ([], KEY, False),
        (None, KEY, False),
        (sign_token(KEY, lifetime_s=86_400), None, False),
        (sign_token(KEY, lifetime_s=86_400), "", False),
    ],
)
def test_requests_are_verified(package: Package, header: Any, key: str | None, is_valid: bool) -> None:
    assert resource_of(package, key).verify_request({AUTHORIZATION_HEADER.lower(): header}) is is_valid


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("a.b", "expected 3 parts"),
        (sign_token("sk_other", lifetime_s=86_400), "signature mismatch"),
        (sign_token(KEY, lifetime_s=86_400, iss="someone"), "expected issuer"),
        (sign_token(KEY, lifetime_s=86_400, sub="someone"), "expected subject"),
        (sign_token(KEY, lifetime_s=86_400, exp=None), "missing exp"),
        (sign_token(KEY, lifetime_s=86_400, iat=None), "missing iat"),
        (sign_token(KEY, lifetime_s=-3600), "expired"),
        (sign_token(KEY, lifetime_s=86_400, iat=2**33), "iat is in the future"),
    ],
)
def test_a_refused_token_says_why(package: Package, token: str, reason: str) -> None:
    verify = package.module("speech_engine").verify_speech_engine_jwt
    assert verify(sign_token(KEY, lifetime_s=86_400), KEY)["sub"] == "convai_speech_engine_upstream"
    with pytest.raises(ValueError, match=reason):
        verify(token, KEY)


async def test_a_server_wraps_and_stops(package: Package) -> None:
    seen: list[Any] = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(f"echo: {transcript[-1].content}")

    server = package.module("speech_engine").SpeechEngineServer(
        port=0,
        on_init=lambda conversation_id, session: seen.append(("init", conversation_id, session)),
        on_transcript=on_transcript,
        on_error=lambda error, session: seen.append(("error", str(error), session)),
        on_close=lambda session: seen.append(("close", session)),
        on_disconnect=lambda session: seen.append(("disconnected", session)),
    )
    await server.stop()
    ws = Socket({"type": "init", "conversation_id": "c"}, transcript("ping"), {"type": "error", "message": "no"})
    session = server.handle_connection(ws)
    await session.run()
    assert spoken(ws.sent) == [("echo: ping", 1, False), ("", 1, True)]
    assert seen == [("init", "c", session), ("error", "no", session), ("disconnected", session)]
    assert json.dumps(ws.sent)


async def test_a_server_without_a_key_does_not_start(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="API key"):
        await package.module("speech_engine").SpeechEngineServer(port=0).serve()
