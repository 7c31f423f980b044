"""`se-server new DIR`: the project that it writes passes its own test, loads, and is never written over another."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from se_server.cli.new import installed_from
from se_server.cli.starter import LLMS, project_files, project_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEY = "ELEVENLABS_API_KEY"
MODULES = {"openai": "openai", "anthropic": "anthropic", "gemini": "google.genai"}


def new(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "se_server", "new", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("llm", LLMS)
def test_the_project_passes_its_own_test(llm: str, tmp_path: Path) -> None:
    if find_spec(MODULES[llm].partition(".")[0]) is None:
        pytest.skip(f"needs {MODULES[llm]}")
    made = new("My agent", "--llm", llm, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "My agent"
    assert f"{LLMS[llm].key}=... .venv/bin/se-server agent.py --playground" in made.stdout
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "se_server.testing.plugin"]
    # As in an environment with pytest and the project alone.
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout


def test_a_missing_key_is_named_at_the_start(tmp_path: Path) -> None:
    pytest.importorskip("anthropic")
    assert new("here", "--llm", "anthropic", cwd=tmp_path).returncode == 0
    env = {name: value for name, value in os.environ.items() if name not in (KEY, "ANTHROPIC_API_KEY")}
    serve = [sys.executable, "-m", "se_server", "agent.py", "--port", "0", "--workers", "1"]
    for keys, sentence in (
        ({}, f"set {KEY}, or give --api-key-file FILE; --playground tries it without one"),
        ({KEY: "k"}, "on_startup raised KeyError: the environment variable ANTHROPIC_API_KEY is not set"),
    ):
        ran = subprocess.run(
            serve, cwd=tmp_path / "here", env=env | keys, capture_output=True, text=True, timeout=30, check=False
        )
        assert ran.returncode
        assert sentence in ran.stderr
        assert "Traceback" not in ran.stderr


def test_the_project_can_be_installed_by_its_name(tmp_path: Path) -> None:
    assert new("My agent", cwd=tmp_path).returncode == 0
    project = tomllib.loads((tmp_path / "My agent" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-agent"
    assert project["project"]["dependencies"] == ["se-server", LLMS["openai"].package]
    assert 'ENTRYPOINT ["se-server", "agent"]' in (tmp_path / "My agent" / "Dockerfile").read_text()


@pytest.mark.parametrize(("folder", "name"), [("Agent_2", "agent-2"), ("...", "agent"), ("Zürich", "z-rich")])
def test_names_of_folders_become_names_of_distributions(folder: str, name: str) -> None:
    assert project_name(folder) == name


@pytest.mark.parametrize(
    ("url", "argument"),
    [
        ({"url": f"file://{Path(__file__).parent}", "dir_info": {}}, f"{Path(__file__).parent} "),
        ({"url": "file:///no/such/clone"}, ""),
        ({"url": "https://example.com/se_server.whl"}, ""),
        (None, ""),
    ],
)
def test_the_steps_name_the_clone_that_was_installed(
    url: dict[str, object] | None, argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return None if url is None else json.dumps(url)

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed())
    assert installed_from() == argument


def test_the_files_name_the_clone_too() -> None:
    files = project_files("here", LLMS["openai"], "/my/clone ")
    assert ".venv/bin/pip install /my/clone -e '.[dev]'" in files["README.md"]
    assert "-m build --sdist --outdir wheels /my/clone\n" in files["Dockerfile"]
    assert "clone" not in project_files("here", LLMS["openai"])["Dockerfile"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "agent.py").write_text("mine")
    made = new("here", cwd=tmp_path)
    assert made.returncode == 2
    assert "agent.py exists, and is not overwritten" in made.stderr
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["agent.py"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "missing argument 'DIR'; see se-server new --help"),
        (("a", "b"), "got unexpected extra argument (b)"),
        (("a", "--llm", "none"), "--llm: 'none' is not one of 'openai', 'anthropic', 'gemini'"),
        (("file/agent",), "cannot write file/agent: Not a directory"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = new(*arguments, cwd=tmp_path)
    assert made.returncode == 2
    assert made.stderr.startswith(f"se-server: {sentence}")
    assert len(made.stderr.splitlines()) == 1


def test_an_app_may_be_called_new(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("async def on_transcript(transcript, session): ...")
    made = new("--check", "--disable-auth", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
