"""Commands of a checkout find it from any folder in it, and report when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from se_server.cli import bench
from se_server.cli.checkout import command_of_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with one benchmark, which prints its arguments."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "se-server"\n')
    (tmp_path / "bench").mkdir()
    (tmp_path / "telling_bench.py").write_text("def main(arguments):\n    print(arguments)\n    return 3\n")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_of_checkout("tell", "telling_bench", "Tell."), arguments)


@pytest.mark.parametrize("folder", [".", "docs/deep"])
def test_arguments_and_exit_code_pass_through(checkout: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout / folder)
    monkeypatch.delitem(sys.modules, "telling_bench", raising=False)
    told = run("--only", "one", "--help", "--", "-x")
    assert told.exit_code == 3
    assert told.output == "['--only', 'one', '--help', '--', '-x']\n"


def test_outside_a_checkout_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "something-else"\n')
    monkeypatch.chdir(tmp_path)
    told = run("--quick")
    assert told.exit_code == 1
    assert told.output.count("\n") == 1
    assert "clone the repository" in told.output


def test_the_measurements_are_listed_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(bench.command, ["--help"])
    assert told.exit_code == 0
    for name in ("compare", "micro", "scaling"):
        assert f"\n  {name} " in told.output
        assert "clone the repository" in CliRunner().invoke(bench.command, [name, "--help"]).output
