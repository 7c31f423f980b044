"""`SpeechEngineResource`: verifying requests, wrapping WebSockets, handing over to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.datastructures import Headers as StarletteHeaders
from websockets.datastructures import Headers as WebsocketsHeaders

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from se_server.conversation.session import SpeechEngineSession
from se_server.errors import UnsupportedWebSocket
from se_server.sdk.client import ElevenLabs
from se_server.sdk.resource import SpeechEngineResource

KEY = "sk_0123456789abcdef"
LOWER = AUTHORIZATION_HEADER.lower()
TOKEN = sign_token(KEY, lifetime_s=86_400)  # parameters are made long before their test runs


class Wrapper:
    """All that is needed of the published SDK's client wrapper."""

    def __init__(self, key: str | None = KEY) -> None:
        self.key = key

    def get_headers(self) -> dict[str, str]:
        return {"User-Agent": "x"} if self.key is None else {"xi-api-key": self.key}


def resource(key: str | None = KEY) -> SpeechEngineResource:
    return SpeechEngineResource("seng_1", Wrapper(key))


@pytest.mark.parametrize(
    "headers",
    [
        {AUTHORIZATION_HEADER: TOKEN},
        {LOWER: TOKEN},
        {AUTHORIZATION_HEADER.upper(): f"bearer {TOKEN}"},
        {"Cookie": ["a", "b"], LOWER: [TOKEN, "another"]},
        {LOWER.encode(): TOKEN.encode()},
        StarletteHeaders({AUTHORIZATION_HEADER: TOKEN}),
        WebsocketsHeaders([("Cookie", "a"), ("Cookie", "b"), (AUTHORIZATION_HEADER, TOKEN)]),
    ],
)
def test_request_is_verified_for_every_shape_of_headers(headers: Mapping[Any, Any]) -> None:
    assert resource().verify_request(headers) is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {LOWER: sign_token("sk_another")},
        {LOWER: ""},
        {LOWER: None},
        {LOWER: []},
        {LOWER: 17},
        {LOWER: ["garbage", TOKEN]},
        {LOWER: "\x00\ud83d"},
        WebsocketsHeaders([(LOWER, TOKEN), (LOWER, "another")]),
    ],
)
def test_anything_else_is_not(headers: Mapping[Any, Any]) -> None:
    assert resource().verify_request(headers) is False


def test_without_a_key_nothing_is_verified() -> None:
    headers = {LOWER: sign_token(KEY)}
    assert SpeechEngineResource("seng_1").verify_request(headers) is False
    assert resource(None).verify_request(headers) is False
    assert resource("").verify_request(headers) is False


def test_the_key_is_looked_up_at_each_request() -> None:
    wrapper = Wrapper()
    engine = SpeechEngineResource("seng_1", wrapper)
    old, new = {LOWER: sign_token(KEY)}, {LOWER: sign_token("sk_rotated")}
    assert (engine.verify_request(old), engine.verify_request(new)) == (True, False)
    wrapper.key = "sk_rotated"
    assert (engine.verify_request(old), engine.verify_request(new)) == (False, True)


def test_the_clients_wrapper_gives_the_key() -> None:
    with ElevenLabs(api_key=KEY) as client:
        engine = SpeechEngineResource("seng_1", client_wrapper=client._client_wrapper)
        assert engine.verify_request({LOWER: sign_token(KEY)})


def test_resource_made_by_hand_has_no_config() -> None:
    engine = SpeechEngineResource("seng_1")
    assert (engine.engine_id, engine.config) == ("seng_1", None)
    assert KEY not in repr(resource()) + repr(vars(resource()))


async def test_create_session_wraps_a_websocket() -> None:
    class WebSocket:
        async def recv(self) -> str:
            return ""

        async def send(self, data: str) -> None: ...

        async def close(self) -> None: ...

    session = resource().create_session(WebSocket(), debug=False)
    assert isinstance(session, SpeechEngineSession)
    assert session.conversation_id is None


async def test_create_session_refuses_what_is_no_websocket() -> None:
    with pytest.raises(UnsupportedWebSocket):
        resource().create_session(object())


async def test_serve_refuses_a_handler_of_an_unknown_name() -> None:
    with pytest.raises(TypeError, match="on_transcript"):
        await resource().serve(port=0, on_transcripts=print)


@pytest.mark.parametrize("key", ["", "  ", "\t\n", "_residency_eu", None])
def test_a_blank_key_verifies_nothing(key: str | None) -> None:
    assert resource(key).verify_request({LOWER: TOKEN}) is False
