"""`se-server --print-schema`, and the completion of shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from se_server.server.config.options import OPTIONS


def test_schema_describes_every_option_of_the_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "se_server", "--print-schema", "no_such_app.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    schema = json.loads(done.stdout)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"routes", *(option.name for option in OPTIONS)}
    described = schema["properties"]
    assert described["port"]["type"] == "integer"
    assert (described["debug"]["type"], described["debug"]["default"]) == ("boolean", False)
    assert described["log_format"]["enum"] == ["text", "json"]
    assert described["fd"]["anyOf"][1]["type"] == "array"
    assert all(entry["description"] for entry in described.values())


@pytest.mark.parametrize("program", ["server", "chat", "ctl", "doctor", "bench"])
@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")])
def test_every_command_completes_its_options(program: str, shell: str, words: str) -> None:
    variable = f"_SE_{program.upper()}_COMPLETE"
    command = [os.path.join(os.path.dirname(sys.executable), f"se-{program}")]
    shown = subprocess.run(
        command,
        env={**os.environ, variable: f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert words in shown.stdout, shown.stderr
    if shell == "bash":
        typed = {"COMP_WORDS": f"se-{program} --he", "COMP_CWORD": "1", variable: "bash_complete"}
        found = subprocess.run(
            command, env={**os.environ, **typed}, capture_output=True, text=True, check=False, timeout=60
        )
        assert "plain,--help" in found.stdout.splitlines()
