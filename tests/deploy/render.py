"""Renders the chart into deploy/kubernetes: `python -m tests.deploy.render`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "se-server"
MANIFESTS = DEPLOY / "kubernetes"
HEADER = "# Rendered from deploy/helm/se-server by tests/deploy/render.py. The chart is the place for changes.\n"
# Every part that needs something more in the cluster, switched on.
EVERYTHING: dict[str, Any] = {
    "serviceMonitor": {"enabled": True},
    "keda": {"enabled": True},
    "podDeletionCost": {"enabled": True},
}


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """Return the manifests of the chart by the name of their template; empty ones are left out."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="agent", namespace="voice")
    texts = {Path(name).name: text.strip() + "\n" for name, text in files.items() if name.endswith(".yaml")}
    return {name: text for name, text in texts.items() if text.strip()}


def committed() -> dict[str, str]:
    """Return the manifests of deploy/kubernetes: what needs nothing has the default values, the rest is switched on."""
    return rendered(EVERYTHING) | rendered({})


def main() -> None:
    """Write the manifests."""
    for name, text in committed().items():
        (MANIFESTS / name).write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
