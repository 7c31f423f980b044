"""Renders the chart into deploy/kubernetes: `python -m tests.deploy.render`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "se-server"
MANIFESTS = DEPLOY / "kubernetes"
HEADER = (
    "# Rendered from deploy/helm/se-server with deploy/kubernetes/values.yaml. The chart is the place for changes.\n"
)


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """Return the manifests of the chart by the name of their template; empty ones are left out."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="agent", namespace="voice")
    texts = {Path(name).name: text.strip() + "\n" for name, text in files.items() if name.endswith(".yaml")}
    return {name: text for name, text in texts.items() if text.strip()}


def committed_values() -> dict[str, Any]:
    """Return the values of the committed manifests."""
    found: dict[str, Any] = yaml.safe_load((MANIFESTS / "values.yaml").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Write the manifests."""
    for name, text in rendered(committed_values()).items():
        (MANIFESTS / name).write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
