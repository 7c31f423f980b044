"""The output of commands for programs has the fields of docs/commands.md, and no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import TEST_API_KEY, ServerProcess, running_server

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
AGENT = "async def on_transcript(transcript, session):\n    await session.send_response('You said it.')\n"
TYPES = {"text": (str,), "number": (int, float), "true or false": (bool,), "object": (dict,), "null": (type(None),)}


def fields_of(command: str) -> dict[str, str]:
    """Return the fields of a command's output by the page, with their types."""
    section = PAGE.read_text().partition(f"### `{command}`")[2].partition("\n### ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|", section, re.MULTILINE))


def leaves(value: Any, known: dict[str, str], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a value with their names; what the page calls an object is one."""
    if isinstance(value, dict) and known.get(name) != "object":
        for key, item in value.items():
            yield from leaves(item, known, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, known, f"{name}[]")
    else:
        yield name, value


def check(command: str, value: Any) -> None:
    known = fields_of(command)
    found = list(leaves(value, known))
    assert {name for name, _ in found} <= set(known), "a field that the page lacks"
    for name, item in found:
        kinds = [kind for word in known[name].split(" or ") for kind in TYPES.get(word, ())]
        kinds += TYPES["true or false"] if known[name] == "true or false" else ()
        assert type(item) in kinds, (name, item, known[name])
    empty = tuple(f"{name}[]" for name in ("remarks", "silent_workers"))
    assert set(known) - {name for name, _ in found} <= set(empty), "a field that the output lacks"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    folder = tmp_path_factory.mktemp("json")
    (folder / "agent.py").write_text(AGENT)
    path = str(folder / "ctl")
    (folder / "se.toml").write_text(f'[[routes]]\nname = "all"\napp = "{folder}/agent.py"\n')
    options = ("--control-socket", path, "--admin", "127.0.0.1:0", "--drain-timeout-s", "0")
    with running_server(*options, "--config", str(folder / "se.toml"), workers=1) as running:
        running.wait_for_output("the page for operators is at")  # its process is there
        yield running, path


def run(module: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", f"se_server.cli.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_se_ctl_prints_the_fields_of_the_page(server: tuple[ServerProcess, str]) -> None:
    running, path = server
    command = [sys.executable, "-m", "se_server.cli.chat", running.url, "--api-key", TEST_API_KEY, "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write("hello\n")
        chat.stdin.flush()
        events = [json.loads(chat.stdout.readline()) for _ in range(3)]
        assert [set(event) - {"t_s", "event"} for event in events] == [
            {"text", "interrupts"},
            {"text"},
            {"first_text_s"},
        ]
        check("se-ctl status --json", run("ctl", "--socket", path, "status", "--json"))
        check("se-ctl conversations --json", run("ctl", "--socket", path, "conversations", "--json"))
        check("se-ctl keys --json", run("ctl", "--socket", path, "keys", "--json"))
        check("se-ctl stacks --json", run("ctl", "--socket", path, "stacks", "0", "--json"))
        deadline = time.monotonic() + 20
        while not (turns := run("ctl", "--socket", path, "turns", "--json"))["turns"]:
            assert time.monotonic() < deadline
        check("se-ctl turns --json", turns)
        chat.stdin.close()


def test_callers_print_the_fields_of_the_page(server: tuple[ServerProcess, str]) -> None:
    call = (server[0].url, "--api-key", TEST_API_KEY, "--json")
    check("se-doctor --json", run("doctor", *call, "--only", "question"))
    check("se-bench load --json", run("load", *call, "-n", "1", "--duration-s", "0.1"))
    options = ("--step-s", "0.2", "--first", "1", "--most", "1", "--think-s", "0.01")
    check("se-bench capacity --json", run("capacity", *call, *options))


@pytest.mark.parametrize(
    ("module", "options"),
    [("doctor", ("--only", "question")), ("load", ("-n", "1", "--duration-s", "0.1")), ("chat", ())],
)
def test_an_output_without_utf8_ends_no_command(
    server: tuple[ServerProcess, str], module: str, options: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", f"se_server.cli.{module}", server[0].url, "--api-key", TEST_API_KEY, *options]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    done = subprocess.run(
        command, input="größer – 你好\n", capture_output=True, encoding="utf-8", timeout=60, check=False, env=env
    )
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (0, False)
