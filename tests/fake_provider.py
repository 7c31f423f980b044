"""The real LLM SDKs, streaming from a local HTTP server: the events are the ones their own code makes.

An SDK's HTTP client is its own business and changes; its base URL does not.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@contextmanager
def provider_of(events: Sequence[Json]) -> Iterator[str]:
    """A provider that answers every request with `events` as server-sent events; yields its base URL."""
    lines = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
    body = "".join(f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def openai_chat(events: Sequence[Json]) -> list[Any]:
    """What `chat.completions.create(stream=True)` yields."""
    import openai

    with (
        provider_of(events) as url,
        openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client,
        client.chat.completions.create(model="m", messages=[], stream=True) as stream,
    ):
        return list(stream)


def openai_responses(events: Sequence[Json]) -> list[Any]:
    """What `responses.create(stream=True)` yields."""
    import openai

    with (
        provider_of(events) as url,
        openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client,
        client.responses.create(model="m", input="", stream=True) as stream,
    ):
        return list(stream)


def anthropic_create(events: Sequence[Json]) -> list[Any]:
    """What `messages.create(stream=True)` yields."""
    import anthropic

    with (
        provider_of(events) as url,
        anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client,
        client.messages.create(model="m", max_tokens=1, messages=[], stream=True) as stream,
    ):
        return list(stream)


def anthropic_stream(events: Sequence[Json]) -> list[Any]:
    """What `messages.stream()` yields: the same events, and the SDK's own that repeat their text."""
    import anthropic

    with (
        provider_of(events) as url,
        anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=1, messages=[]) as stream,
    ):
        return list(stream)


def gemini(events: Sequence[Json]) -> list[Any]:
    """What `models.generate_content_stream()` yields."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the SDK, at import
        from google import genai

    with (
        provider_of(events) as url,
        closing(genai.Client(api_key="none", http_options={"base_url": url})) as client,
    ):
        return list(client.models.generate_content_stream(model="m", contents="x"))
