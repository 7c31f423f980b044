"""The fake provider's bytes: framing, cutting and timing change when bytes are sent, never which."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers import APIS, Failure, Script, Tool
from tests.providers.api import Api, Asked
from tests.providers.wire import Event, Plan, event_stream_message, http_chunk, plan, sse

ASKED = Asked("m")


def body_of(made: Plan) -> bytes:
    """Undo the transfer coding of all steps."""
    return b"".join(chunk for step in made.steps for chunk in chunks_of(step.data))


def chunks_of(data: bytes) -> Iterator[bytes]:
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        yield rest[:length]
        data = rest[length + 2 :]


def tokens_in(made: Plan) -> int:
    return sum(step.tokens for step in made.steps)


def plan_of(api: Api, script: Script) -> Plan:
    error = api.error(script, ASKED) if script.failure else b""
    return plan(script, api.events(script, ASKED), error, api.ping(script))


by_api = pytest.mark.parametrize("api", APIS, ids=[f"{api.name} {next(iter(api.paths))}" for api in APIS])
EVENTS = [Event(b"head"), *(Event(f"token {number}".encode(), 1) for number in range(20)), Event(b"end")]
BODY = b"".join(event.data for event in EVENTS)


@given(smallest=st.integers(1, 8), more=st.integers(0, 30), seed=st.integers(0, 99), rate=st.sampled_from([None, 50.0]))
def test_cut_anywhere_the_body_stays(smallest: int, more: int, seed: int, rate: float | None) -> None:
    script = Script(cut_bytes=(smallest, smallest + more), seed=seed, tokens_per_s=rate, first_token_s=0.5)
    made = plan(script, EVENTS, b"", b"")
    assert body_of(made) == BODY
    assert tokens_in(made) == 20
    assert all(before.at_s <= after.at_s for before, after in pairwise(made.steps))
    sizes = [len(chunk) for step in made.steps for chunk in chunks_of(step.data)]
    assert all(smallest <= size <= smallest + more for size in sizes[:-1])


def test_piece_with_two_events_waits_for_the_later() -> None:
    script = Script(cut_bytes=(10, 10), tokens_per_s=1.0)
    made = plan(script, [Event(b"seven b", 1), Event(b"seven b", 1)], b"", b"")
    assert [(step.at_s, step.tokens) for step in made.steps] == [(1.0, 1), (1.0, 1)]


def test_tokens_are_timed_by_the_pace() -> None:
    made = plan(Script(tokens_per_s=50.0, first_token_s=0.3), EVENTS, b"", b"")
    times = [step.at_s for step in made.steps if step.tokens]
    assert times == [pytest.approx(0.3 + number / 50) for number in range(20)]
    assert made.steps[0].at_s == 0.0
    assert list(chunks_of(made.steps[-1].data)) == [b"token 19", b"end"]


def test_no_step_has_two_tokens_of_one_time() -> None:
    made = plan(Script(tokens_per_s=1e12), EVENTS, b"", b"")
    assert max(step.tokens for step in made.steps) == 1


def test_pings_fill_pauses() -> None:
    made = plan(Script(first_token_s=1.0, tokens_per_s=1000, ping_every_s=0.3), EVENTS, b"", b": ping\n\n")
    pings = [step.at_s for step in made.steps if b": ping" in step.data]
    assert pings == [pytest.approx(at_s) for at_s in (0.3, 0.6, 0.9)]


def test_gzip_gives_each_event_when_it_is_sent() -> None:
    made = plan(Script(gzip=True), EVENTS, b"", b"")
    unpacker = zlib.decompressobj(wbits=31)
    pieces = [unpacker.decompress(next(chunks_of(step.data))) for step in made.steps]
    assert pieces[:-1] == [event.data for event in EVENTS]
    assert unpacker.eof
    assert made.headers == {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("after", [0, 1, 7])
def test_failure_comes_after_its_tokens(after: int) -> None:
    made = plan(Script(failure=Failure(after)), EVENTS, b"ERROR", b"")
    assert tokens_in(made) == after
    assert body_of(made) == b"head" + b"".join(event.data for event in EVENTS[1 : after + 1]) + b"ERROR"


@pytest.mark.parametrize("kind", ["drop", "reset", "end", "stall"])
def test_failing_connection_sends_no_error(kind: str) -> None:
    made = plan(Script(failure=Failure(2, kind)), EVENTS, b"ERROR", b"")  # type: ignore[arg-type]
    assert made.ending == kind
    assert body_of(made) == b"headtoken 0token 1"


def test_line_ends_and_escapes_are_chosen() -> None:
    assert sse({"a": "°"}, Script()) == 'data: {"a":"°"}\n\n'.encode()
    assert sse({"a": "°"}, Script(ascii=True, crlf=True), name="x") == b'event: x\r\ndata: {"a":"\\u00b0"}\r\n\r\n'


def test_halves_of_a_surrogate_pair_are_escaped() -> None:
    assert sse({"a": "\ud83d"}, Script()) == b'data: {"a":"\\ud83d"}\n\n'


def test_http_chunk_has_its_length_in_hex() -> None:
    assert http_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_event_stream_message_by_the_specification() -> None:
    message = event_stream_message(b"{}", event_type="chunk")
    length, headers, prelude_crc = struct.unpack("!III", message[:12])
    assert length == len(message)
    assert prelude_crc == zlib.crc32(message[:8])
    assert message[12 : 12 + headers] == b"\x0b:event-type\x07\x00\x05chunk"
    assert message[12 + headers : -4] == b"{}"
    assert struct.unpack("!I", message[-4:]) == (zlib.crc32(message[:-4]),)


@by_api
def test_every_api_counts_the_scripts_tokens(api: Api) -> None:
    script = Script(text="one two three", tools=(Tool(),))
    extra = 4 if api.name == "cohere" else 0  # its tool plan
    assert tokens_in(plan_of(api, script)) == script.output_tokens + extra


@by_api
def test_every_api_frames_raw_events(api: Api) -> None:
    script = Script.of_events([{"messageStart": {"role": "assistant"}}])
    assert b"role" in body_of(plan_of(api, script))


@by_api
@pytest.mark.parametrize("kind", ["error", "nested_error", "failed", "incomplete"])
def test_every_api_has_an_error_inside_a_stream(api: Api, kind: str) -> None:
    script = Script(failure=Failure(2, kind, "It broke"))  # type: ignore[arg-type]
    body = body_of(plan_of(api, script))
    assert b"It broke" in body or kind == "incomplete"


@by_api
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_every_api_has_an_error_body(api: Api, status: int) -> None:
    refused = api.refused(Script(status=status, message="Not now", retry_after_s=1), ASKED)
    assert refused.status == status
    assert "Not now" in json.dumps(refused.body)


@by_api
def test_every_api_answers_whole(api: Api) -> None:
    script = Script(reasoning="let me see", tools=(Tool(),))
    told = json.dumps(api.whole(script, Asked("m", stream=False)), ensure_ascii=False)
    assert script.text in told
    assert "get_weather" in told


def test_script_from_json() -> None:
    value = {"text": ["a", "b"], "tools": [{"name": "f"}], "failure": {"kind": "reset"}, "cut_bytes": [1, 4]}
    expected = Script(text=("a", "b"), tools=(Tool("f"),), failure=Failure(kind="reset"), cut_bytes=(1, 4))
    assert Script.from_json(value) == expected
    assert Script.from_json({"events": [{"a": 1}]}) == Script.of_events([{"a": 1}])
    with pytest.raises(ValueError, match="a script has no txt"):
        Script.from_json({"txt": "x"})
