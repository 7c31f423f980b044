"""Code blocks of the pages are right: Python is type-checked, shell and data are read by their languages' parsers.

Blocks that are fragments use names that the text around them introduces: `KNOWN` has their types. Complete programs run
in other tests, `RUN_BY` says in which.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from se_server.toml_file import tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w/]+\.py)\n")

# Names that a fragment may use without defining it, and the annotation of parameters that have none.
KNOWN = {
    "app": "Any",
    "answer": "Callable[..., Awaitable[None]]",
    "caller": "testing.Caller",
    "client": "Any",
    "engine": "SpeechEngineResource",
    "http": "Any",
    "llm": "Any",
    "look_it_up": "Callable[[], Awaitable[str]]",
    "make_caller": "testing.MakeCaller",
    "messages": "list[dict[str, Any]]",
    "messages_of": "Callable[..., list[dict[str, str]]]",
    "on_transcript": "Callable[[list[ConversationMessage], SpeechEngineSession], Awaitable[None]]",
    "openai": "Callable[..., Awaitable[Any]]",
    "other": "Any",
    "server": "SpeechEngineServer",
    "session": "SpeechEngineSession",
    "stream": "Any",
    "transcript": "list[ConversationMessage]",
    "turn": "Any",
}
MODULES = {
    "Habits": "from se_server.simulator.habits import Habits",
    "as_openai": "from se_server.history import as_openai",
    "logging": "import logging",
    "prometheus_client": "import prometheus_client",
    "pytest": "import pytest",
    "register_extractor": "from se_server import register_extractor",
    "se_server": "import se_server.observe.records",
    "testing": "from se_server import testing",
}
NOT_FOLLOWED = ("aiohttp", "anthropic", "fastapi", "google", "livekit", "openai", "pipecat", "pytest", "starlette")
PRELUDE = """\
from collections.abc import Awaitable as Awaitable, Callable as Callable
from typing import Any as Any
from se_server import ConversationMessage as ConversationMessage, SpeechEngineResource as SpeechEngineResource
from se_server import SpeechEngineServer as SpeechEngineServer, SpeechEngineSession as SpeechEngineSession
from se_server import testing as testing
"""
# The tests that run a page's complete programs.
RUN_BY = {
    "README.md": "tests/functional/test_readme.py",
    "docs/testing.md": "tests/functional/test_testing_plugin.py",
    "docs/migrating.md": "tests/functional/test_guides.py",
    "docs/recording.md": "tests/functional/test_guides.py",
    "docs/tutorial.md": "tests/functional/test_guides.py",
    "docs/skill/SKILL.md": "tests/functional/test_guides.py",
    "docs/agents.md": "tests/functional/test_agents_page.py",
    "docs/how-to/bridges.md": "tests/functional/test_guides.py",
    "docs/how-to/first-message.md": "tests/functional/test_guides.py",
    "docs/how-to/providers.md": "tests/functional/test_guides.py",
    "docs/how-to/tools.md": "tests/functional/test_guides.py",
    "docs/how-to/web-frameworks.md": "tests/functional/test_guides.py",
}
# The tests that give a block to the program it is written for; the tests of this module read the others.
READ_BY = {
    "haproxy": "tests/balancers/balancers.py",
    "ini": "tests/deploy/test_systemd.py",
    "nginx": "tests/balancers/balancers.py",
}
OUTPUT = ("", "text")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """Return the blocks of some languages with their place."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found[2] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{page.relative_to(ROOT)}:{line}", textwrap.dedent(found[3])


PYTHON = list(blocks("python", "py"))


def test_the_pages_have_blocks() -> None:
    assert len(PYTHON) > 20
    assert len(list(blocks("sh", "bash"))) > 10


def test_every_block_is_read_by_a_test() -> None:
    read = {"bash", "diff", "dockerfile", "json", "py", "python", "sh", "toml", "yaml", *READ_BY}
    for page in PAGES:
        for _, language, text in re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text("utf-8"), re.M | re.S):
            assert language in (*read, *OUTPUT), f"{page.name}: no test reads {language}"
            commands = re.match(r"\s*(pip|python|se-\w+ (?!ready)|docker|curl|export|tox|systemctl)\b(?!:)", text)
            assert language not in OUTPUT or not commands, f"{page.name}: {text[:40]!r} needs a language"
    for test in READ_BY.values():
        assert (ROOT / test).exists()


# --- Python ---------------------------------------------------------------------------------------------------------


class _Annotated(ast.NodeTransformer):
    """Annotates the parameters of a page's functions that have a known name, so that their bodies are checked."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if node.annotation is None and node.arg in KNOWN:
            node.annotation = ast.parse(KNOWN[node.arg], mode="eval").body
        return node


def undefined_names(tree: ast.Module) -> set[str]:
    """Return the names that a block reads and nowhere binds."""
    bound, read = set(dir(builtins)), set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add((asname or name).partition(".")[0])
    return read - bound


def as_module(place: str, code: str) -> str:
    """Return a block as a module to check: the names that it takes from its page are declared."""
    tree = ast.parse(code)
    awaits = any(isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor) for node in outside_functions(tree))
    unknown = undefined_names(tree) - KNOWN.keys() - MODULES.keys()
    assert not unknown, f"{place} uses {sorted(unknown)} without defining them: define them, or add them to KNOWN"
    names = undefined_names(tree)
    head = [PRELUDE, *(MODULES[name] for name in sorted(names & MODULES.keys()))]
    head += [f"{name}: {KNOWN[name]}" for name in sorted(names & KNOWN.keys())]
    declared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    head += [f"{name}: Any" for name in sorted(declared - names)]
    body = ast.unparse(ast.fix_missing_locations(_Annotated().visit(tree)))
    if awaits:
        body = "async def block() -> None:\n" + textwrap.indent(body, "    ")
    return "\n".join([*head, body, ""])


def outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Return the nodes that are not inside a function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from outside_functions(node)


def type_errors(blocks: list[tuple[str, str]], folder: Path) -> list[str]:
    """Return what mypy reports on blocks, each error with the block's place."""
    places = {}
    for number, (place, code) in enumerate(blocks):
        places[f"block_{number}"] = place
        (folder / f"block_{number}.py").write_text(as_module(place, code), encoding="utf-8")
    # The LLM packages and frameworks are not followed: reading them takes a minute.
    (folder / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"
        "check_untyped_defs = True\nstrict_optional = False\nenable_error_code = unused-awaitable\n"
        "disable_error_code = var-annotated\n"
        f"[mypy-{','.join(f'{name}.*' for name in NOT_FOLLOWED)}]\nfollow_imports = skip\n"
    )
    files = [f"{module}.py" for module in places]
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "--no-error-summary", *files]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found = re.findall(r"^(block_\d+)\.py:\d+: error: (.*)$", ran.stdout, re.MULTILINE)
    # An interruption need not be awaited.
    return [f"{places[block]}: {message}" for block, message in found if '"Interruption" must be used' not in message]


def test_python_has_no_type_errors(tmp_path: Path) -> None:
    assert type_errors(PYTHON, tmp_path) == []


def test_misspelt_names_in_a_block_are_found(tmp_path: Path) -> None:
    wrong = [
        ("keyword", "await engine.serve(on_transcripts=on_transcript)"),
        ("method", "async def on_transcript(transcript, session):\n    await session.send_response()"),
        ("await", "async def on_transcript(transcript, session):\n    session.send_response('x')"),
        ("attribute", "print(transcript[0].text)"),
    ]
    assert {error.partition(":")[0] for error in type_errors(wrong, tmp_path)} == {place for place, _ in wrong}


def test_complete_programs_are_run_by_a_test() -> None:
    for place, code in PYTHON:
        if named := NAMED.match(code):
            page = place.partition(":")[0]
            assert page in RUN_BY, f"{place}: {named[1]} is run by no test"
            test = (ROOT / RUN_BY[page]).read_text(encoding="utf-8")
            assert f'"{named[1]}"' in test or named[1] == "test_app.py", f"{place}: {RUN_BY[page]} has no {named[1]}"


# --- other languages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "code"), list(blocks("sh", "bash")), ids=lambda value: value[:60])
def test_shell_is_valid(place: str, code: str) -> None:
    ran = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), place


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="apt-get install shellcheck")
@pytest.mark.parametrize(("place", "code"), list(blocks("sh", "bash")), ids=lambda value: value[:60])
def test_shellcheck_finds_nothing(place: str, code: str) -> None:
    # Blocks are typed at a prompt, where `cd ... || exit` would end the shell.
    command = ["shellcheck", "--shell=bash", "--severity=warning", "--exclude=SC2164", "-"]
    ran = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, ""), place


@pytest.mark.parametrize(("place", "code"), list(blocks("diff")), ids=lambda value: value[:60])
def test_both_sides_of_a_change_import(place: str, code: str) -> None:
    for sign in "-+":
        side = "\n".join(line[1:] for line in code.splitlines() if line[:1] in (sign, " "))
        assert side, place
        # The published package stands in no environment of the tests.
        imported = subprocess.run([sys.executable, "-c", side], capture_output=True, text=True, check=False)
        assert imported.returncode == 0 or "No module named 'elevenlabs" in imported.stderr, (place, imported.stderr)


@pytest.mark.parametrize(("place", "code"), list(blocks("dockerfile")), ids=lambda value: value[:60])
def test_instructions_of_images_are_known(place: str, code: str) -> None:
    for line in re.sub(r"\\\n", " ", code).splitlines():
        assert re.match(r"(#|$|(FROM|RUN|COPY|USER|CMD|ENTRYPOINT|ENV|WORKDIR|ARG|EXPOSE) \S)", line), (place, line)


@pytest.mark.skipif(shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None, reason="apt-get install logrotate")
@pytest.mark.parametrize("page", ["logs", "systemd"])
def test_logrotate_accepts_the_pages_configuration(page: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deploy" / f"{page}.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```\n(# /etc/logrotate\.d/.*?)^```$", text, re.MULTILINE | re.DOTALL)
    copy = tmp_path / "agent"
    copy.write_text(block)
    copy.chmod(0o644)
    program = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    assert program is not None
    ran = subprocess.run(
        [program, "--debug", "--state", str(tmp_path / "state"), str(copy)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "error:" in ran.stderr) == (0, False), ran.stderr


@pytest.mark.parametrize(("place", "code"), list(blocks("yaml", "toml", "json")), ids=lambda value: value[:60])
def test_data_is_valid(place: str, code: str) -> None:
    readers = [json.loads, tomllib.loads, lambda text: list(yaml.safe_load_all(text))]
    failures = []
    for read in readers:
        try:
            read(code)
            return
        except (ValueError, yaml.YAMLError) as error:
            failures.append(str(error))
    raise AssertionError(f"{place}: {failures}")
