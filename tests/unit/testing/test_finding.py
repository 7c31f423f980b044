"""The agent of a test is found from the project's directory, from that of the tests, and from anywhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from se_server.errors import AppError
from se_server.testing.finding import found_app


@pytest.fixture
def test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    for folder in ("agents", "tests/unit", "package"):
        (project / folder).mkdir(parents=True)
    for file in ("agents/agent.py", "app_of_test.py", "package/__init__.py", "package/inner.py"):
        (project / file).write_text("")
    return project / "tests" / "unit" / "test_it.py"


@pytest.mark.parametrize("start", [".", "tests", "tests/unit", ".."])
def test_a_file_is_found_from_every_directory(test: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    project = test.parents[2]
    monkeypatch.chdir(project / start)
    for spec, name in (("agents/agent.py", ""), ("agents/agent.py:on_transcript", ":on_transcript")):
        found = found_app(spec, test, project)
        assert Path(found.removesuffix(name)).resolve() == project / "agents" / "agent.py"
        assert found.endswith(name)
    if start != ".":
        assert sys.path[0] == str(project)  # the agent imports modules from there


@pytest.mark.parametrize("spec", ["app_of_test", "app_of_test:agent", "package.inner"])
def test_a_module_is_put_on_the_path(test: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(test.parent)
    assert found_app(spec, test, test.parent) == spec
    if not spec.startswith("package"):  # the name of an installed package stays that package
        assert sys.path[0] == str(test.parents[2])


def test_a_file_that_is_nowhere_is_named(test: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(test.parents[2])
    with pytest.raises(
        AppError, match=r"no file .*/app_of_tes\.py, did you mean app_of_test\.py\? There is no .* above"
    ):
        found_app("app_of_tes.py", test, test.parents[2])
    with pytest.raises(AppError, match=r"run pytest in the directory of your agent, or give its path in the test"):
        found_app("nosuch/agent.py", test, test.parents[2])
