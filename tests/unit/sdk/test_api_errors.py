"""The exceptions of the REST clients, none of which holds the API key."""

from __future__ import annotations

import json
import logging
import socket
import traceback
from typing import Any

import httpx
import pytest

from se_server import errors
from tests.fake_api import running_api
from tests.unit.sdk.conftest import Clients

NO_RETRIES = {"max_retries": 0}
AT_ONCE = {"retry-after": "0"}


async def failure(clients: Clients, client: Any = None, **options: Any) -> errors.SpeechEngineError:
    client = client or clients.make()
    with pytest.raises(errors.SpeechEngineError) as caught:
        await clients.result(client.speech_engine.get("seng_1", request_options={**NO_RETRIES, **options}))
    return caught.value


def everything_said_by(error: BaseException) -> str:
    """All that a program can show of an exception: text, repr, attributes, and the whole chain."""
    told = "".join(traceback.format_exception(error))
    while error is not None:
        told += f"{error!r} {error.args!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return told


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (418, errors.ApiError),
        (422, errors.UnprocessableEntity),
        (429, errors.RateLimited),
        (500, errors.ApiServerError),
        (503, errors.ApiServerError),
    ],
)
async def test_each_outcome_has_its_class(clients: Clients, status: int, kind: type[errors.ApiError]) -> None:
    body = {"detail": {"status": "some_reason", "message": "It says why."}}
    clients.api.answer_next(status, body, headers={"request-id": "req_1"})
    error = await failure(clients)
    assert type(error) is kind
    assert isinstance(error, errors.ApiError)
    assert (error.status_code, error.body, error.request_id) == (status, body, "req_1")
    assert str(error) == f"GET /v1/speech-engine/seng_1 was answered with {status}: It says why."


async def test_a_wrong_key_is_unauthorized(clients: Clients) -> None:
    error = await failure(clients, clients.make(api_key="sk_wrong_one"))
    assert type(error) is errors.Unauthorized


async def test_a_missing_engine_is_not_found(clients: Clients) -> None:
    error = await failure(clients)
    assert type(error) is errors.NotFound
    assert error.request_id == "req_404"


async def test_refused_values_are_named(clients: Clients) -> None:
    with pytest.raises(errors.UnprocessableEntity, match=r"body\.speech_engine\.ws_url: Field required"):
        await clients.result(clients.make().speech_engine.create(speech_engine={}))


async def test_the_request_id_may_come_from_a_proxy(clients: Clients) -> None:
    clients.api.answer_next(502, headers={"x-request-id": "proxy_7"})
    error = await failure(clients)
    assert isinstance(error, errors.ApiServerError)
    assert error.request_id == "proxy_7"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b"<html>Bad gateway</html>", errors.ApiServerError),
        (500, b"", errors.ApiServerError),
        (500, b"\xff\xfe\x00", errors.ApiServerError),
        (500, b'{"detail": {"loc": 3}}', errors.ApiServerError),
        (500, b'{"detail": []}', errors.ApiServerError),
        (500, b"[" * 900 + b"]" * 900, errors.ApiServerError),
        (200, b"<html>Please log in to the hotel network</html>", errors.ApiError),
        (200, b"", errors.ApiError),
        (200, b"[]", errors.ApiError),
        (200, b'{"unexpected": 1}', errors.ApiError),
        (200, b'{"speech_engine_id": ', errors.ApiError),
    ],
)
async def test_reply_of_another_server_is_an_error(
    clients: Clients, status: int, body: bytes, kind: type[errors.ApiError]
) -> None:
    clients.api.answer_next(status, body)
    error = await failure(clients)
    assert type(error) is kind
    assert error.status_code == status
    assert "<" not in str(error)


async def test_a_huge_error_body_gives_a_short_message(clients: Clients) -> None:
    clients.api.answer_next(500, b"x " * 1_000_000)
    error = await failure(clients)
    assert isinstance(error, errors.ApiServerError)
    assert len(str(error)) <= 300
    assert len(str(error.body)) <= 65_536


async def test_missing_reply_is_a_timeout(clients: Clients) -> None:
    clients.api.answer_next(silent=True)
    error = await failure(clients, clients.make(timeout=0.05))
    assert type(error) is errors.ApiTimeout
    assert str(error) == "GET /v1/speech-engine/seng_1 had no answer within 0.05 s"
    clients.api.answer_next(silent=True)
    error = await failure(clients, timeout_in_seconds=0.04)
    assert "0.04 s" in str(error)


async def test_an_unreachable_api_is_a_connection_error(clients: Clients) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else gets it
        host = f"127.0.0.1:{reserved.getsockname()[1]}"
        error = await failure(clients, clients.make(base_url=f"http://user:pw@{host}"))
    assert type(error) is errors.ApiConnectionError
    assert host in str(error)
    assert "pw" not in everything_said_by(error)


async def test_connection_cut_before_the_reply_is_an_error(clients: Clients) -> None:
    clients.api.answer_next(cut_off=True)
    assert type(await failure(clients)) is errors.ApiConnectionError


async def test_a_broken_encoding_is_a_connection_error(clients: Clients) -> None:
    clients.api.answer_next(200, b"no gzip", headers={"content-encoding": "gzip"})
    assert type(await failure(clients)) is errors.ApiConnectionError


async def test_reads_that_failed_are_repeated_twice(clients: Clients) -> None:
    engine_id = clients.api.add_engine()
    for status in (500, 429):
        clients.api.answer_next(status, headers=AT_ONCE)
    engine = await clients.result(clients.make().speech_engine.get(engine_id))
    assert engine.engine_id == engine_id
    for _ in range(3):
        clients.api.answer_next(503, headers=AT_ONCE)
    with pytest.raises(errors.ApiServerError):
        await clients.result(clients.make().speech_engine.get(engine_id))
    assert len(clients.api.requests) == 6


async def test_failed_write_is_not_repeated(clients: Clients) -> None:
    clients.api.answer_next(500, headers=AT_ONCE)
    with pytest.raises(errors.ApiServerError):
        await clients.result(clients.make().speech_engine.create(speech_engine={"ws_url": "wss://x"}))
    assert len(clients.api.requests) == 1


async def test_write_refused_by_rate_limit_is_repeated(clients: Clients) -> None:
    clients.api.answer_next(429, headers=AT_ONCE)
    await clients.result(clients.make().speech_engine.create(speech_engine={"ws_url": "wss://x"}))
    assert len(clients.api.engines) == 1


async def test_no_redirect_takes_the_key_to_another_host(clients: Clients) -> None:
    with running_api(clients.api.api_key) as elsewhere:
        location = elsewhere.url.replace("http://", "http://user:secret@") + "/v1/speech-engine/seng_1?token=t"
        following = {"follow_redirects": True}
        theirs = httpx.AsyncClient(**following) if clients.is_async else httpx.Client(**following)
        for client in (clients.make(), clients.make(httpx_client=theirs)):
            for status in (301, 302, 307, 308):
                clients.api.answer_next(status, headers={"location": location})
                error = await failure(clients, client)
                assert type(error) is errors.ApiError
                assert f"a redirect to {elsewhere.url.removeprefix('http://')}, not followed" in str(error)
                assert "secret" not in str(error)
        await clients.result(theirs.aclose() if clients.is_async else theirs.close())
        assert elsewhere.requests == []


KEYS = ["sk_0123456789abcdef", "sk_0123456789abcdef_residency_in"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("status", [200, 302, 401, 500])
async def test_an_echoed_key_gets_no_further(clients: Clients, key: str, status: int) -> None:
    base = key.partition("_residency")[0]
    escaped = "".join(f"\\u{ord(char):04x}" for char in key)
    bodies = [
        json.dumps({"detail": {"message": f"bad key {key}", "also": [key, {key: base}]}}).encode(),
        f'{{"detail": "bad key {escaped}"}}'.encode(),
        f"xi-api-key: {key}\nbase: {base}".encode(),
        b"x" * (65_536 - 5) + key.encode(),
        key.encode() * 30_000,
    ]
    client = clients.make(api_key=key)
    for body in bodies:
        clients.api.answer_next(status, body, headers={"request-id": key, "location": f"http://{key}.example/"})
        told = everything_said_by(await failure(clients, client))
        assert base not in told
        assert base[:5] not in told  # half a key neither


@pytest.mark.parametrize("key", KEYS)
async def test_no_exception_carries_the_request_with_its_key(clients: Clients, key: str) -> None:
    client = clients.make(api_key=key, timeout=0.05)
    for script in ({"silent": True}, {"cut_off": True}, {"status": 500}):
        clients.api.answer_next(**script)
        error = await failure(clients, client)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert key not in everything_said_by(error)


@pytest.mark.parametrize("key", ["sk_0123\n456789", "sk_schlüssel", "sk_with blank", "sk_\x00nul", "Bearer\tsk_12"])
async def test_unsendable_key_is_refused_and_not_shown(
    clients: Clients, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        clients.make(api_key=key)
    assert "sk_" not in everything_said_by(caught.value)
    if "\x00" in key:
        return  # no environment can hold it
    client = clients.make(api_key=None)
    monkeypatch.setenv("ELEVENLABS_API_KEY", key)
    assert "sk_" not in everything_said_by(await failure(clients, client))


async def test_unsendable_header_is_refused_and_not_shown(clients: Clients) -> None:
    for value in ("se\ncret", "sécret"):
        error = await failure(clients, additional_headers={"X-Secret": value})
        assert isinstance(error, errors.ConfigError)
        assert "cret" not in str(error).replace("x-secret", "")


async def test_key_is_in_no_log_and_no_repr(clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = clients.api.api_key
    engine_id = clients.api.add_engine(speech_engine={"ws_url": "wss://x", "request_headers": {"X-Auth": "hush"}})
    client = clients.make()
    engine = await clients.result(client.speech_engine.get(engine_id))
    await failure(clients, client)
    assert len(caplog.records) > 0
    shown = [client, client.speech_engine, client._client_wrapper, client._transport, engine, engine.config]
    told = caplog.text + "".join(repr(thing) for thing in shown)
    assert key not in told
    assert "hush" not in told
