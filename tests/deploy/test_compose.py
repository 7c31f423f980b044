"""compose.yaml and its files, checked against each other, the server's options and the tools of their kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from se_server.server.config.options import BY_NAME
from se_server.server.supervisor.pool import EXIT_MARGIN_S

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVERS = {name: service for name, service in COMPOSE["services"].items() if name.startswith("server-")}


def options() -> dict[str, Any]:
    given = [argument.partition("=") for argument in COMPOSE["x-server"]["command"][1:]]
    return {name.removeprefix("--").replace("-", "_"): value for name, _, value in given}


def with_values(text: str) -> str:
    """Return compose's file with the values of its variables: the defaults, or a word for the required ones."""
    return re.sub(r"\$\{\w+(?::-(.*?)|:\?.*?)\}", lambda found: found[1] or "word", text)


def test_the_compose_specification_allows_the_file() -> None:
    # The reader knows no `<<`.
    merged = yaml.safe_dump(yaml.safe_load(with_values((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))))
    PyCompose.from_yaml(merged).validate()
    with pytest.raises(ValueError, match="stop_gracee_period"):
        PyCompose.from_yaml(merged.replace("stop_grace_period", "stop_gracee_period"))


def compose_command() -> list[str]:
    """Return the command of Docker's compose, of version 2 or later; empty where there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            ran = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if ran.returncode == 0 and int(re.findall(r"\d+", ran.stdout)[0]) >= 2:
                return command
    return []


@pytest.mark.skipif(not compose_command(), reason="docker compose 2 is not installed")
def test_docker_compose_accepts_the_file() -> None:
    ran = subprocess.run(
        [*compose_command(), "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
        env={**os.environ, "ELEVENLABS_API_KEY": "sk_compose"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_servers_options_are_valid() -> None:
    for name, value in options().items():
        BY_NAME[name].parse(value)


@pytest.mark.parametrize("service", [*SERVERS, "haproxy"])
def test_compose_waits_for_a_whole_stop(service: str) -> None:
    names = ("drain_notice_s", "drain_timeout_s", "drain_turn_grace_s", "exit_timeout_s")
    stop_s = sum(float(options().get(name, BY_NAME[name].default)) for name in names) + EXIT_MARGIN_S
    assert int(COMPOSE["services"][service]["stop_grace_period"].removesuffix("s")) >= stop_s + 5


def test_the_default_agent_is_in_its_folder() -> None:
    service = yaml.safe_load(with_values((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))["services"]["server-a"]
    folder, inside, _mode = service["volumes"][0].split(":")
    agent = Path(service["command"][0])
    assert str(agent.parent) == inside
    assert (DEPLOY / folder / agent.name).is_file()


def test_every_mounted_file_exists() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source


def test_haproxy_and_prometheus_ask_where_the_servers_listen() -> None:
    haproxy = (DEPLOY / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
    assert set(re.findall(r"^    server \w+ ([\w-]+):3001$", haproxy, re.MULTILINE)) == set(SERVERS)
    assert f"agent-port {options()['agent_check'].rpartition(':')[2]}" in haproxy
    prometheus = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:{options()['admin'].rpartition(':')[2]}" for name in SERVERS]


@pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="apt-get install haproxy")
def test_haproxy_accepts_its_configuration() -> None:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert program is not None
    ran = subprocess.run(
        [program, "-c", "-f", str(DEPLOY / "compose" / "haproxy.cfg")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8")
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests")
    here = text.replace("/etc/prometheus/alerts.yaml", str(DEPLOY / "alerts.yaml"))
    path = tmp_path / "prometheus.yml"
    path.write_text(here.replace("/run/secrets/admin-token", str(token)))
    subprocess.run(["promtool", "check", "config", str(path)], check=True, capture_output=True)
