"""Dashboard, alerts and Prometheus itself: every query names a family that the server has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from se_server.telemetry._meters import Meters
from se_server.telemetry.counters import COUNTERS
from se_server.telemetry.families import PREFIX, Reading, WorkerFigures, families
from tests.functional.observing import observed_server
from tests.functional.processes import needs_proc, write_agent
from tests.helpers import POLL_S, START_TIMEOUT_S, connect, free_port, read_answer, transcript_message

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\bse_server_\w+")
LABEL = re.compile(r"(se_server_\w+)\{([^}]*)\}")


def known_samples() -> dict[str, set[str]]:
    """Return the labels of every sample that `/metrics` can have, by its name."""
    worker = WorkerFigures(0, 0, 1, 1, "ready", 1.0, 0, 0, 0, 0.0, 0.0, 1, 0)
    meters = Meters()
    reading = Reading("1", 0.0, dict.fromkeys(COUNTERS, 0), meters.cells(), 0, 1, False, [worker], 0)
    found = {}
    for family in families(reading):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.kind, ("",))
        for suffix in suffixes:
            more = {"le"} if suffix == "_bucket" else set()
            found[PREFIX + family.name + suffix] = {*family.labels, *more, "instance", "job"}
    return found


def queries_of(name: str) -> list[str]:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        board = json.loads(text)
        parts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        return [
            *parts,
            *(item["expr"] for item in board["annotations"]["list"]),
            board["templating"]["list"][1]["query"],
        ]
    return [text]


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yaml", "alerts.test.yaml"])
def test_queries_name_families_and_labels_that_exist(name: str) -> None:
    known, queries = known_samples(), queries_of(name)
    named = {found for query in queries for found in NAME.findall(query)}
    assert len(named) > 5
    assert named - {f"{PREFIX}turn_handler_wait_seconds"} - set(known) == set()
    for query in queries:
        for sample, labels in LABEL.findall(query):
            assert set(re.findall(r"(\w+)\s*=", labels)) <= known[sample], sample


def test_alerts_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", str(DEPLOY / "alerts.test.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_proc
async def test_a_real_prometheus_scrapes_the_server(tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("needs prometheus: apt-get install prometheus")
    with observed_server(app=write_agent(tmp_path / "agent.py"), workers=1) as admin:
        async with connect(admin.server.url) as caller:
            await caller.send(transcript_message("hello", event_id=1))
            await read_answer(caller)
        (tmp_path / "prometheus.yml").write_text(
            "scrape_configs:\n"
            "  - job_name: se-server\n"
            "    scrape_interval: 1s\n"
            f"    static_configs: [{{ targets: ['127.0.0.1:{admin.place}'] }}]\n"
            f"rule_files: ['{DEPLOY / 'alerts.yaml'}']\n"
        )
        port = free_port()
        process = subprocess.Popen(  # noqa: ASYNC220
            [
                prometheus,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            answered = _wait_for_query(port, 'se_server_turns_total{outcome="answered"}')
            assert answered[0]["value"][1] == "1"
            assert _wait_for_query(port, "se_server_conversations_total")[0]["value"][1] == "1"
            assert _wait_for_query(port, "up == 1")
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


def _wait_for_query(port: int, query: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_TIMEOUT_S) as response:
                found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        except OSError:
            found = []
        if found:
            return found
        assert time.monotonic() < deadline, f"Prometheus has nothing for {query}"
        time.sleep(POLL_S)
