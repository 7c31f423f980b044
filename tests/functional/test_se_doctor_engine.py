"""se-doctor against the REST API: a stored engine compared with its server, and records of conversations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_api import FakeApi, running_api
from tests.functional.test_se_doctor import examined
from tests.helpers import TEST_API_KEY, environment, running_server


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(TEST_API_KEY) as api:
        yield api


def doctor(api: FakeApi, *args: str, answers: str = "", key: str = TEST_API_KEY) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "se_server.cli.doctor", *args, "--base-url", api.url],
        env=environment(key),
        input=answers,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert TEST_API_KEY not in done.stdout + done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def engine(api: FakeApi, url: str, **fields: Any) -> str:
    return api.add_engine(speech_engine={"ws_url": url, "request_headers": {}}, **fields)


def test_an_engine_is_compared_with_its_own_server(api: FakeApi) -> None:
    with running_server(workers=1) as server:
        engine_id = engine(api, server.url)
        code, said = doctor(api, "--engine", engine_id)
    assert f"Engine {engine_id}" in said
    assert "FAIL ws_url 127.0.0.1 is a private address, which ElevenLabs cannot reach" in said
    assert "ok this server ws_url is the address under examination" in said
    assert "warn first message clients may not set one" in said
    assert f"client.speech_engine.update('{engine_id}', overrides={{'first_message': True}})" in said
    assert "ok cascade timeout the first word came after" in said
    assert "again-answered" not in said, "one question is enough to measure the first word"
    assert code == 1
    assert [request.method for request in api.requests] == ["GET"]


def test_an_address_that_does_not_answer_is_named(api: FakeApi) -> None:
    with running_server("--path", "/ws", workers=1) as server:
        code, said = doctor(api, server.url, "--engine", engine(api, server.url.replace("/ws", "/wss")))
    assert "FAIL reach ws_url does not answer: path: there are no conversations at /wss (404)" in said
    assert code == 1


def test_another_path_on_the_same_server_is_a_warning(api: FakeApi) -> None:
    with running_server(workers=1) as one, running_server(workers=1) as other:
        _, said = doctor(api, one.url, "--engine", engine(api, other.url))
    assert "ok reach ws_url accepts a conversation with this key" in said
    assert "warn this server ws_url leads to 127.0.0.1" in said


def test_a_header_that_the_server_requires(api: FakeApi) -> None:
    with running_server("--require-header", "X-Door=7", workers=1) as server:
        _, said = doctor(api, server.url, "-H", "X-Door: 7", "--engine", engine(api, server.url))
    assert "FAIL headers the engine does not send X-Door" in said


def test_fix_asks_and_never_moves_the_engine(api: FakeApi) -> None:
    with running_server(workers=1) as server:
        engine_id = engine(api, server.url)
        before = dict(api.engines[engine_id])
        _, said = doctor(api, "--engine", engine_id, "--fix", answers="y\n")
        assert "Change overrides.first_message to true" in said
    (patch,) = [request for request in api.requests if request.method == "PATCH"]
    assert patch.body == {"overrides": {"first_message": True}}
    assert api.engines[engine_id] == {**before, "overrides": {"first_message": True}}


@pytest.mark.parametrize("answers", ["n\n", "\n", ""])
def test_fix_changes_nothing_without_consent(api: FakeApi, answers: str) -> None:
    with running_server(workers=1) as server:
        doctor(api, "--engine", engine(api, server.url), "--fix", answers=answers)
    assert not [request for request in api.requests if request.method == "PATCH"]


def test_a_key_without_write_permission(api: FakeApi) -> None:
    with running_server(workers=1) as server:
        engine_id = engine(api, server.url)
        api.answer_next(200, api.engines[engine_id])
        api.answer_next(403, {"detail": {"message": "missing_permissions"}})
        code, said = doctor(api, "--engine", engine_id, "--fix", answers="y\n")
    assert "the permission to read Speech Engines, and for --fix to write them" in said
    assert code == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--engine", "seng_nobody"], "it is not in this workspace"),
        (["--conversation", "conv_nobody"], "it is not in this workspace"),
        (["--engine", "../secret"], "it is not in this workspace"),
        (["--fix"], "--fix needs --engine"),
        (["--engine", "seng_1", "--fix", "--json"], "--fix and --json exclude each other"),
    ],
)
def test_what_cannot_be_fetched_is_explained(api: FakeApi, args: list[str], sentence: str) -> None:
    code, said = doctor(api, *args)
    assert code in (1, 2)
    assert sentence in said


def test_a_wrong_key_is_explained(api: FakeApi) -> None:
    code, said = doctor(api, "--engine", api.add_engine(), key="sk_another")
    assert "use the API key of the workspace" in said
    assert code == 1


def test_the_demo_key_is_no_api_key(api: FakeApi) -> None:
    code, said = doctor(api, "--engine", api.add_engine(), key="")
    assert "set ELEVENLABS_API_KEY" in said
    assert code == 2


def test_a_record_shows_why_a_conversation_ended(api: FakeApi) -> None:
    api.records["conv_7"] = {
        "conversation_id": "conv_7",
        "agent_id": "seng_1",
        "status": "failed",
        "transcript": [{"role": "user", "message": "How \x1b[2Jlate is it?", "time_in_call_secs": 3}],
        "metadata": {"call_duration_secs": 15, "termination_reason": "Speech Engine generation failed"},
    }
    code, said = doctor(api, "--conversation", "conv_7")
    assert code == 0
    assert "\x1b" not in said
    assert "status failed after 15 s" in said
    assert "ended Speech Engine generation failed" in said
    assert "three tries" in said
    assert "12 s before the end, have no answer" in said


def test_engine_findings_are_in_the_json(api: FakeApi) -> None:
    with running_server(workers=1) as server:
        _, report = examined("--engine", engine(api, server.url), "--base-url", api.url)
    names = [finding["name"] for finding in report["engine"]]
    assert names == ["ws_url", "this server", "headers", "cascade timeout", "first message", "voice"]
    assert [case["name"] for case in report["cases"]] == ["question"]
