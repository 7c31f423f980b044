"""docs/agents.md: its agents run, its test passes, and its table has every example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from se_server.testing import call
from tests.providers import Script, running_provider

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
SPOKEN = {
    "parrot.py": "You said: Hello?",
    "model.py": "Good morning.",
    "speech.py": "Your order 42 is on its way!",
    "tool.py": "One moment, I look that up. Order 42 leaves on Friday.",
    "backup.py": "I am the backup.",
}


def test_each_file_is_tried() -> None:
    assert set(FILES) == {*SPOKEN, "test_tool.py"}
    assert PAGE.count("```python") == len(FILES)


@pytest.mark.parametrize("name", SPOKEN)
async def test_agents_of_the_page_speak(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / name
    agent.write_text(FILES[name])
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    async with running_provider(Script(text=("Good ", "morning."))) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url("openai"))
        async with call(str(agent)) as caller:
            assert (await caller.say("Hello?")).text.rstrip() == SPOKEN[name]
            assert caller.summary().is_ok, caller.summary().problems


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    for name in ("tool.py", "test_tool.py"):
        (tmp_path / name).write_text(FILES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "se_server.testing.plugin", "."]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_table_has_every_example() -> None:
    listed = set(re.findall(r"\]\(\.\./examples/(\w+)\)", PAGE.partition("## Examples to copy")[2]))
    assert listed == {agent.parent.name for agent in (ROOT / "examples").glob("*/agent.py")}
