"""The Helm chart and the manifests rendered from it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from se_server.options import memory
from se_server.server.config.options import BY_NAME
from se_server.server.supervisor.pool import EXIT_MARGIN_S
from tests.deploy.render import CHART, EVERYTHING, HEADER, MANIFESTS, committed, rendered

FILES = sorted(MANIFESTS.iterdir())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
QUANTITIES = {"Mi": 2**20, "Gi": 2**30}


def pod_of(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(rendered(values)["deployment.yaml"])["spec"]["template"]["spec"]
    return found


def options_of(pod: dict[str, Any]) -> dict[str, str]:
    return dict(arg.removeprefix("--").partition("=")[::2] for arg in pod["containers"][0]["args"][1:])


def test_the_chart_passes_helms_lint() -> None:
    found = helm_python.lint(CHART)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


def test_committed_manifests_are_the_charts() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FILES} == {
        name: HEADER + text for name, text in committed().items()
    }, "run `python -m tests.deploy.render`"


@pytest.mark.parametrize("version", ["1.27", "1.31", "1.37"])
def test_manifests_are_valid_for_kubernetes(version: str) -> None:
    known = [path for path in FILES if path.name not in ("servicemonitor.yaml", "scaledobject.yaml")]
    program = Path(sys.executable).with_name("kubernetes-validate")
    ran = subprocess.run(
        [str(program), "--strict", "-k", version, *map(str, known)], capture_output=True, text=True, check=False
    )
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    assert "Couldn't find" not in output
    assert output.count(" passed for resource ") == 7


def test_the_deployment_needs_nothing_but_its_secrets() -> None:
    deployment = yaml.safe_load((MANIFESTS / "deployment.yaml").read_text(encoding="utf-8"))["spec"]
    assert "serviceAccountName" not in deployment["template"]["spec"]
    assert deployment["replicas"] == 2


@pytest.mark.parametrize("values", [{}, {"resources": None}, {"resources": {"limits": {"memory": "4G"}}}])
def test_values_render_without_operators(values: dict[str, Any]) -> None:
    kinds = {document["kind"] for text in rendered(values).values() for document in yaml.safe_load_all(text)}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize(
    "drain",
    [
        DEFAULTS["drain"],
        {"noticeSeconds": 0, "timeoutSeconds": 0, "turnGraceSeconds": 0, "exitTimeoutSeconds": 0},
        {"noticeSeconds": 30, "timeoutSeconds": 3600, "turnGraceSeconds": 60, "exitTimeoutSeconds": 20},
    ],
)
def test_grace_period_outlasts_a_whole_stop(drain: dict[str, int]) -> None:
    pod = pod_of({"drain": drain})
    options = options_of(pod)
    names = ("drain_notice_s", "drain_timeout_s", "drain_turn_grace_s", "exit_timeout_s")
    stop_s = sum(BY_NAME[name].parse(options[name.replace("_", "-")]) for name in names) + EXIT_MARGIN_S
    assert stop_s < pod["terminationGracePeriodSeconds"] <= stop_s + 10


def test_every_option_of_the_pod_is_valid() -> None:
    for name, value in options_of(pod_of(EVERYTHING)).items():
        option = BY_NAME[name.replace("-", "_")]
        if not option.is_flag:
            option.parse(value)


@pytest.mark.parametrize("name", sorted(options_of(pod_of(EVERYTHING)).keys() - {"log-format"}))
def test_options_of_the_chart_are_refused_as_extra_ones(name: str) -> None:
    with pytest.raises(helm_python.HelmError, match=f"extraArgs: the chart gives --{name} itself"):
        rendered({"extraArgs": [f"--{name}=1"]})


def test_workers_at_their_limit_fit_into_the_pods_memory() -> None:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", DEFAULTS["resources"]["limits"]["memory"]).groups()
    limit = int(number) * QUANTITIES[unit]
    # One worker more while a large one is replaced, and the supervisor and the observer.
    assert (DEFAULTS["workers"] + 1) * memory(DEFAULTS["maxWorkerRss"]) + 256 * 2**20 <= limit


def test_probes_never_take_a_full_pod_out() -> None:
    container = pod_of({})["containers"][0]
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert "lifecycle" not in container
    liveness = container["livenessProbe"]
    # The supervisor replaces a hung worker before Kubernetes would end all conversations of the pod.
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > BY_NAME["hang_timeout_s"].default


def test_the_pod_has_no_rights_that_it_does_not_need() -> None:
    pod = pod_of({})
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"maxSessions": 0}, "/maxSessions"),
        ({"path": "/readyz"}, "one of the server's own paths"),
        ({"path": "ws"}, "/path"),
        ({"drain": {"timeoutSeconds": "ten"}}, "/drain/timeoutSeconds"),
        ({"replica": 3}, "'replica' not allowed"),
        ({"maxWorkerRss": "512Mi"}, "/maxWorkerRss"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"tag": ""}}, "image.tag or image.digest"),
        ({"image": {"repository": "registry/agent:1.0"}}, "/image/repository"),
        ({"keda": {"targetLoadRatio": "1.5"}}, "/keda/targetLoadRatio"),
        ({"keda": {"targetLoadRatio": 0}}, "/keda/targetLoadRatio"),
        ({"keda": {"enabled": True}}, "needs serviceMonitor.enabled"),
        ({**EVERYTHING, "keda": {"enabled": True, "minReplicas": 30}}, "more than maxReplicas"),
        ({"serviceMonitor": {"enabled": True}, "admin": {"enabled": False}}, "needs admin.enabled"),
        ({"podDeletionCost": {"enabled": True}, "admin": {"enabled": False}}, "needs admin.enabled"),
        ({"admin": {"port": 3001}}, "port of conversations"),
        ({"service": {"port": 9100}}, "port of conversations"),
        ({"workers": 8}, "need 4608Mi"),
        ({"maxWorkerRss": "1.5 GiB"}, "need 4608Mi"),
        ({"extraArgs": ["--drain-timeout-s=60"]}, "set drain.timeoutSeconds"),
        ({"extraArgs": ["--port", "8080"]}, "with --port the probes"),
        ({"extraEnv": [{"name": "SE_SERVER_PORT", "value": "8080"}]}, "extraEnv: with --port the probes"),
        ({"extraEnv": [{"name": "SE_SERVER_MAX_SESSIONS", "value": "8"}]}, "set maxSessions"),
        ({"podAnnotations": {"one": 1}}, "/podAnnotations/one"),
        ({"extraEnv": [{"name": "ONE", "value": 1}]}, "/extraEnv/0/value"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(reason)):
        rendered(values)


def test_values_arrive_as_texts() -> None:
    values = {"agent": "app.py # x", "trustedProxies": "::", "apiKeySecret": {"name": "true", "key": "1"}}
    values["extraArgs"] = ["--goodbye-text", 'Later: "call" # again']
    container = pod_of(values)["containers"][0]
    assert container["args"][0] == "app.py # x"
    assert {"--trusted-proxies=::", "--goodbye-text", 'Later: "call" # again'} < set(container["args"])
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "true", "key": "1"}


def test_every_value_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def check(values: dict[str, Any], described: dict[str, Any], where: str) -> None:
        for name, value in values.items():
            assert name in described["properties"], f"{where}{name}"
            if isinstance(value, dict) and "properties" in described["properties"][name]:
                check(value, described["properties"][name], f"{where}{name}.")

    check(DEFAULTS, schema, "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_the_scalers_query_is_valid_and_names_our_metrics(tmp_path: Path) -> None:
    scaled = yaml.safe_load((MANIFESTS / "scaledobject.yaml").read_text(encoding="utf-8"))
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    rules = {"groups": [{"name": "scaler", "rules": [{"record": "wanted", "expr": query}]}]}
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    subprocess.run(["promtool", "check", "rules", str(path)], check=True, capture_output=True)
    assert scaled["spec"]["scaleTargetRef"]["name"] == "agent-se-server"
    metrics = set(re.findall(r"se_server_\w+", query))
    assert metrics == {"se_server_load_ratio", "se_server_draining"}
