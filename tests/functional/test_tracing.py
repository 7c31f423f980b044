"""Traces of a real server, received by a collector of OTLP: turns, the spans of handlers under them, and sampling."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from se_server.errors import ConfigError
from se_server.server.shared.tracing import Tracing, check_tracing
from tests.functional.processes import needs_proc, write_agent
from tests.helpers import (
    POLL_S,
    START_TIMEOUT_S,
    ServerProcess,
    connect,
    init_message,
    read_answer,
    running_server,
    stopped_at_the_end,
    transcript_message,
)
from tests.providers import provider_in_thread

pytest.importorskip("opentelemetry.sdk", reason="needs OpenTelemetry: pip install 'se-server[otel]'")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

pytestmark = needs_proc

AGENT = """
    import asyncio
    import os
    from opentelemetry import trace

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        with trace.get_tracer("agent").start_as_current_span("look up " + said):
            await asyncio.sleep(0.01)
        if said == "fail":
            raise ValueError("no such table")
        if said == "ask":
            import openai
            client = openai.AsyncOpenAI(api_key="none", base_url=os.environ["LLM"], max_retries=0)
            messages = [{"role": "user", "content": said}]
            await session.send_response(
                await client.chat.completions.create(model="m", messages=messages, stream=True)
            )
            return
        if said == "story":
            for _ in range(500):
                await session.send_response("word ", final=False)
                await asyncio.sleep(0.01)
        await session.send_response(f"you said {said}")
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """Receives spans over OTLP/HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.schemas: set[str] = set()
        self.arrived = threading.Event()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.services |= {
                item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.schemas.add(scope.scope.name + " " + (scope.schema_url or ""))
                self.spans += scope.spans

    def wait_for(self, *names: str) -> list[Any]:
        """Return the spans of these names, when all have come."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            found = [[span for span in self.spans if span.name == name] for name in names]
            if all(found):
                return [span for spans in found for span in spans]
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(POLL_S)

    def wait_for_turns(self, count: int) -> list[Any]:
        """Return the spans of turns, when there are so many."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(self.turns()) < count:
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(POLL_S)
        return self.turns()

    def turns(self) -> list[Any]:
        """Return the spans of turns, by their beginning."""
        return sorted(
            (span for span in self.spans if span.name.startswith("invoke_agent")),
            key=lambda span: int(span.start_time_unix_nano),
        )


@contextmanager
def running_collector(delay_s: float = 0.0) -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.arrived.set()
            ended.wait(delay_s)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield collector
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


@contextmanager
def traced_server(
    collector_url: str, tmp_path: Path, *args: str, app: str = AGENT, **env: str
) -> Iterator[ServerProcess]:
    """Run a server that sends its spans to a collector at once."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url, "OTEL_BSP_SCHEDULE_DELAY": "50", **env}
    file = write_agent(tmp_path / "agent.py", app)
    with running_server("--traces", *args, app=file, workers=1, env=variables) as server:
        server.wait_for_output("exports the spans of turns", START_TIMEOUT_S)
        yield server


async def _say(url: str, *said: str, name: str = "conv_traced", headers: dict[str, str] | None = None) -> None:
    async with connect(url, headers=headers or {}) as websocket:
        await websocket.send(init_message(name))
        for event_id, words in enumerate(said, 1):
            await websocket.send(transcript_message(words, event_id=event_id))
            if words == "story":
                await websocket.recv()
            else:
                await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)


def facts_of(span: Any) -> dict[str, Any]:
    found = {}
    for item in span.attributes:
        found[item.key] = getattr(item.value, item.value.WhichOneof("value"))
    return found


def test_each_turn_is_a_span_with_its_handlers_below(tmp_path: Path) -> None:
    with (
        running_collector() as collector,
        provider_in_thread() as provider,
        traced_server(collector.url, tmp_path, LLM=provider.base_url("openai"), OTEL_SERVICE_NAME="booking") as server,
    ):
        asyncio.run(_say(server.url, "hello", "ask", "story", "fail"))
        inner = collector.wait_for("look up hello", "look up ask", "look up story", "look up fail", "chat m")
        collector.wait_for("invoke_agent agent")
        collector.wait_for_turns(4)
        turns = collector.turns()
    facts = [facts_of(turn) for turn in turns]
    assert [one["se_server.turn.outcome"] for one in facts] == ["answered", "answered", "interrupted", "failed"]
    assert {one["gen_ai.conversation.id"] for one in facts} == {"conv_traced"}
    assert {one["gen_ai.operation.name"] for one in facts} == {"invoke_agent"}
    assert {one["gen_ai.agent.name"] for one in facts} == {"agent"}
    assert [one["se_server.turn.event_id"] for one in facts] == [1, 2, 3, 4]
    assert collector.services == {"booking"}
    assert any("schemas/1.37.0" in schema for schema in collector.schemas)
    # The spans that the handler made are below its turn, openai's included.
    own = {turn.span_id: turn.trace_id for turn in turns}
    assert len({turn.trace_id for turn in turns}) == 4
    for span in inner:
        assert own[span.parent_span_id] == span.trace_id
    assert [span.parent_span_id for span in inner] == [turns[place].span_id for place in (0, 1, 2, 3, 1)]
    for span, turn in zip(inner, turns, strict=False):
        assert turn.start_time_unix_nano - 1e6 <= span.start_time_unix_nano <= turn.end_time_unix_nano
    # Each is linked to the one before; no span lasts for the conversation.
    assert [[link.span_id for link in turn.links] for turn in turns] == [
        [],
        *([turn.span_id] for turn in turns[:3]),
    ]
    assert [event.name for event in turns[2].events if event.name != "stream_opened"] == ["first_text", "interruption"]
    assert facts[3]["error.type"] == "ValueError"
    assert [turn.status.code for turn in turns] == [0, 0, 0, 2]
    assert "se_server.sampled_late" not in facts[3]


def test_the_trace_of_the_upgrade_goes_on(tmp_path: Path) -> None:
    with running_collector() as collector, traced_server(collector.url, tmp_path) as server:
        sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        asyncio.run(_say(server.url, "hello", headers=sampled))
        asyncio.run(_say(server.url, "dropped", "fail", headers={"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}))
        asyncio.run(_say(server.url, "broken", headers={"traceparent": "00-zz-1-01"}))
        inner = collector.wait_for("look up hello", "look up broken", "invoke_agent agent")
        collector.wait_for_turns(3)
        known, late, fresh = collector.turns()
    assert known.trace_id.hex() == inner[0].trace_id.hex() == TRACE
    assert known.parent_span_id.hex() == PARENT
    # The caller's trace is not sampled: the failed turn alone is exported, without what was below it.
    assert late.trace_id.hex() == TRACE[::-1]
    assert facts_of(late)["se_server.sampled_late"] is True
    assert facts_of(late)["se_server.turn.outcome"] == "failed"
    assert not [span for span in collector.spans if span.name in ("look up dropped", "look up fail")]
    assert fresh.trace_id.hex() not in (TRACE, TRACE[::-1], "")
    assert not fresh.parent_span_id


def test_sampling_is_decided_when_the_turn_begins(tmp_path: Path) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    with running_collector() as collector, traced_server(collector.url, tmp_path, **sampler) as server:
        asyncio.run(_say(server.url, *["hello"] * 40, "fail"))
    turns = collector.turns()  # the stop has sent what was left
    sampled = [turn for turn in turns if "se_server.sampled_late" not in facts_of(turn)]
    assert 5 < len(sampled) < 36
    below = [span for span in collector.spans if span.name.startswith("look up")]
    assert {span.parent_span_id for span in below} == {turn.span_id for turn in sampled}
    assert facts_of(turns[-1])["se_server.turn.outcome"] == "failed"


@pytest.mark.parametrize("collector", ["down", "slow"])
def test_a_collector_in_trouble_costs_callers_nothing(tmp_path: Path, collector: str) -> None:
    with running_collector(delay_s=60.0) as slow:
        url = slow.url if collector == "slow" else "http://127.0.0.1:9"
        with traced_server(url, tmp_path) as server:
            asyncio.run(_say(server.url, "hello"))
            if collector == "slow":
                assert slow.arrived.wait(START_TIMEOUT_S)
            took = []
            for _ in range(2):
                began = time.perf_counter()
                asyncio.run(_say(server.url, *["hello"] * 20))
                took.append(time.perf_counter() - began)
            assert min(took) < 2.0
            began = time.perf_counter()
            server.stop()
            assert time.perf_counter() - began < 12.0  # far less than the collector takes


def test_each_turn_is_exported_once_through_restart_and_upgrade(tmp_path: Path) -> None:
    async def talk(server: ServerProcess) -> None:
        async with connect(server.url) as websocket:
            await websocket.send(init_message("conv_once"))
            for event_id in range(1, 8):
                await websocket.send(transcript_message("hello", event_id=event_id))
                await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)
                if event_id == 2:
                    await asyncio.to_thread(collector.wait_for_turns, 2)
                    (observer,) = re.findall(r"\[(\d+)\] se_server\.server\.observer: exports", server.output())
                    os.kill(int(observer), signal.SIGKILL)
                    await asyncio.to_thread(
                        server.wait_for_output, "(?s)the observer was killed.*exports the spans", START_TIMEOUT_S
                    )
                if event_id == 4:
                    os.kill(server.pid, signal.SIGUSR2)
                    await asyncio.to_thread(
                        server.wait_for_output, r"(?s)supervisor \d+ serves.*exports the spans", START_TIMEOUT_S
                    )

    with running_collector() as collector, traced_server(collector.url, tmp_path) as server:
        asyncio.run(talk(server))
        collector.wait_for_turns(7)
        with stopped_at_the_end(int(server.wait_for_output(r"supervisor (\d+) serves")[1])):
            asyncio.run(_say(server.url, "afterwards", name="conv_other"))
            collector.wait_for_turns(8)
    found = [
        (facts_of(turn)["gen_ai.conversation.id"], facts_of(turn)["se_server.turn.event_id"])
        for turn in collector.turns()
    ]
    assert found == [*(("conv_once", event_id) for event_id in range(1, 8)), ("conv_other", 1)]


OWN = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource

    provider = TracerProvider(resource=Resource({"service.name": "own"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    async def on_transcript(transcript, session):
        with trace.get_tracer("agent").start_as_current_span("own span"):
            pass
        await session.send_response("hello")
"""


def test_an_agents_own_provider_is_used(tmp_path: Path) -> None:
    with running_collector() as collector, traced_server(collector.url, tmp_path, app=OWN) as server:
        asyncio.run(_say(server.url, "hello"))
        (inner, turn) = collector.wait_for("own span", "invoke_agent agent")
    assert (inner.parent_span_id, inner.trace_id) == (turn.span_id, turn.trace_id)
    assert collector.services == {"own", "se-server"}


def test_without_the_option_nothing_is_sent(tmp_path: Path) -> None:
    with running_collector() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        app = write_agent(tmp_path / "agent.py", AGENT)
        with running_server(app=app, workers=1, env=env) as server:
            asyncio.run(_say(server.url, "hello"))
        with running_server("--traces", app=app, workers=1, env={**env, "OTEL_SDK_DISABLED": "true"}) as server:
            asyncio.run(_say(server.url, "hello"))
    assert collector.spans == []


def test_a_missing_exporter_ends_the_start() -> None:
    with (
        pytest.raises(AssertionError, match="no exporter 'nosuch' is installed"),
        running_server("--traces", env={"OTEL_TRACES_EXPORTER": "nosuch"}),
    ):
        pass


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "OTEL_PROPAGATORS",
            "foo",
            "no propagator 'foo' is installed: expected some of baggage, tracecontext, or none",
        ),
        ("OTEL_PROPAGATORS", "tracecontext,b3", "pip install opentelemetry-propagator-b3"),
        ("OTEL_PROPAGATORS", "tracecontext,", "no propagator '' is installed"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5", "expected a whole number from 1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "expected at most the 2048 of OTEL_BSP_MAX_QUEUE_SIZE"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many", "expected a whole number from 0"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable}: .*{re.escape(said)}"):
        check_tracing(Tracing(traces=True))


@pytest.mark.parametrize("value", ["none", "baggage,none", "baggage", " tracecontext "])
def test_propagators_that_are_installed_are_used(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", value)
    assert check_tracing(Tracing(traces=True)).traces
