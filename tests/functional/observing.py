"""Shared by the tests of the observer: a server with an address for operators, and its answers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.helpers import POLL_S, START_TIMEOUT_S, ServerProcess, running_server

TOKEN = "a-token-of-the-test-suite"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAGE_LINE = re.compile(r"the page for operators is at http://127\.0\.0\.1:(\d+)/")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Admin:
    """The observer of a running server, over its port or its Unix socket."""

    def __init__(self, server: ServerProcess, place: int | Path) -> None:
        self.server = server
        self.place = place

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", body: str = "") -> Any:
        """Send one request; return status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place if isinstance(self.place, int) else 80)
        connection.timeout = START_TIMEOUT_S
        if isinstance(self.place, Path):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self.place))
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def samples(self) -> Samples:
        """Return all samples of a scrape, by name and labels, without the prefix."""
        status, text = self.get("/metrics", OPENMETRICS)
        assert status == 200, text
        return {
            (sample.name.removeprefix("se_server_"), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; 0 if there is none."""
        return self.samples().get((name, frozenset(labels.items())), 0.0)

    def wait_for_value(self, expected: float, name: str, **labels: str) -> None:
        """Scrape until a sample has a value."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := self.value(name, **labels)) != expected:
            assert time.monotonic() < deadline, f"{name}{labels} is {found} and not {expected}"
            time.sleep(POLL_S)

    def overview(self) -> dict[str, Any]:
        """Return the JSON of the page's figures."""
        found = json.loads(self.get("/api/overview")[1])
        assert isinstance(found, dict)
        return found

    def pid(self) -> int:
        """Return the process id of the observer."""
        return max(
            int(pid) for pid in re.findall(r"INFO \[(\d+)\] se_server\.server\.observer", self.server.output())[-1:]
        )


@contextmanager
def observed_server(*args: str, tokens: Path | None = None, **options: Any) -> Iterator[Admin]:
    """Run a server with an observer on a free port."""
    if tokens is not None:
        tokens.write_text(TOKEN)
        args = (*args, "--admin-token-file", str(tokens))
    with running_server("--admin", "127.0.0.1:0", *args, **options) as server:
        port = server.wait_for_output(PAGE_LINE, START_TIMEOUT_S)[1]
        yield Admin(server, int(port))
