"""The names on the pages exist: links, paths, modules, options, variables, commands and identifiers."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from se_server.cli import bench, chat, ctl, doctor, new, server
from se_server.errors import SpeechEngineError
from se_server.server.config.options import BY_NAME, OPTIONS
from se_server.server.observer._timelines import PART_NAMES
from se_server.simulator.script import parse_script

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
FOR_CONTRIBUTORS = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/design").glob("*.md"))]
PAGES = sorted(
    {
        *FOR_CONTRIBUTORS,
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "CHANGELOG.md",
        ROOT / "bench/README.md",
        *(ROOT / "docs").rglob("*.md"),
    }
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

SOURCES = ("src", "ext", "tests", "bench", "examples", "docs", "deploy", ".ci")
PACKAGES = (ROOT / "src/se_server", ROOT / "ext/se_server")
PATH = re.compile(
    r"(?<![\w./:@%-])(?:[\w.-]+/)*[\w-]+\.(?:py|pyx|pxi|pxd|pyi|md|ini)\b(?![\w/])|(?<![\w./:-])[.\w-]+/[\w./-]*(?![\w./*-])"
)
# Files of the reader, which the pages only invent.
PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n", re.MULTILINE)
OF_THE_READER = {name for page in PAGES for name in PROGRAM.findall(page.read_text(encoding="utf-8"))} | {
    "app.py",
    "agent.py",
    "test_app.py",
    "web.py",
    "create_engine.py",
    "small-talk.toml",
    "call.jsonl",
}
# Options and variables of other people's programs.
FOREIGN_FLAGS = {
    "--upgrade", "--kill-whom", "--signal", "--time", "--inplace", "--dist", "--allowlist", "--ignore-unused-allowlist",
    "--strict", "--http", "--loop", "--ws", "--cap-drop", "--read-only", "--security-opt", "--stop-timeout", "--tmpfs",
    "--tag", "--balancer", "--quick", "--from-literal", "--namespace", "--set", "--set-string",
}  # fmt: skip
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
FOREIGN_NAMES = {
    "AGENT_FOLDER",
    "ENGINE_ID",
    "PUBLIC_URL",
    "TWILIO_AUTH_TOKEN",
    "LIVEKIT_URL",
    "LIVEKIT_TOKEN",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "XDG_RUNTIME_DIR",
    "LEAST_REQUEST",
}


# --- what there is ---


@cache
def words() -> frozenset[str]:
    """Return every word of the sources and of the tools' configuration, without the pages."""
    found: set[str] = set()
    files = [ROOT / "tox.ini", ROOT / "setup.py", ROOT / "pyproject.toml"]
    for folder in ("src", "ext", "tests", "bench"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".pyx", ".pxi", ".pxd", ".pyi")]
    for path in files:
        if path != Path(__file__):
            found.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return frozenset(found)


@cache
def file_names() -> frozenset[str]:
    inside = (path for folder in SOURCES for path in (ROOT / folder).rglob("*.*"))
    return frozenset(path.name for path in [*ROOT.iterdir(), *inside])


@cache
def commands() -> dict[str, click.Command]:
    return {
        "se-server": server.command(),
        "se-ctl": ctl.command,
        "se-bench": bench.command,
        "se-chat": chat.main,
        "se-doctor": doctor.main,
    }


def flags_of(command: click.Command) -> set[str]:
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            flags |= flags_of(inner)
    return flags


@cache
def flags_of_module(module: str) -> frozenset[str]:
    """Return the options of a program in `bench`, read from its source."""
    source = ROOT / (module.replace(".", "/") + ".py")
    if not source.exists():
        source = source.with_suffix("") / "__main__.py"
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    return frozenset(re.findall(r'"(--[a-z0-9-]+)"', text)) | {"--help"}


@cache
def all_flags() -> frozenset[str]:
    """Return the options of all commands, those of the benchmarks and of the tests' programs included."""
    found = set(FOREIGN_FLAGS).union(*(flags_of(command) for command in [*commands().values(), new.command()]))
    for folder in ("bench", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            found.update(re.findall(r'(?:add_argument|option)\(\s*"(--[a-z0-9-]+)"', path.read_text(encoding="utf-8")))
    return frozenset(found)


@cache
def tox_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return tox's environments and its labels."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    named = {section.removeprefix("testenv:") for section in tox.sections() if section.startswith("testenv:")}
    return frozenset(named), frozenset(re.findall(r"^(\w+) =", tox["tox"]["labels"], re.MULTILINE))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
    return frozenset(heading.replace(" ", "-") for heading in plain)


@cache
def extras() -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return frozenset(project["optional-dependencies"])


# --- what a page says ---


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def code(text: str) -> Iterator[str]:
    """Yield what a page shows as code: spans, and the lines of its blocks; the generated tree is prose."""
    text = re.sub(r"<!-- tree: begin -->.*?<!-- tree: end -->", "", text, flags=re.DOTALL)
    for block in re.findall(r"^```(?!mermaid)\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    for found in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", without_blocks(text), re.DOTALL):
        yield " ".join(found[1].split())
    yield from re.findall(r"^    (\S.*)$", without_blocks(text), re.MULTILINE)


def wrong_links(text: str, page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.exists():
            yield f"link to {target}: no such file"
        elif anchor and anchor not in anchors(linked) and not re.fullmatch(r"gh-(dark|light)-mode-only", anchor):
            yield f"link to {target}: no such heading"


def is_there(path: str, page: Path) -> bool:
    if path in OF_THE_READER or path.startswith((".venv/", "results/scratch")):
        return True
    if "/" not in path:
        return path in file_names()
    bases = [ROOT, ROOT / "src", page.parent, *PACKAGES, *(base / "server" for base in PACKAGES)]
    first = path.split("/")[0]
    if not any((base / first).is_dir() for base in bases):
        return not path.endswith((".py", ".pyx", ".pxi", ".pxd"))  # otherwise a path of another system
    return any((base / path).exists() for base in bases)


def wrong_paths(line: str, page: Path) -> Iterator[str]:
    for path in PATH.findall(line):
        if not re.search(r"://", line.split(path)[0][-8:]) and not is_there(path, page):
            yield f"{path}: no such file"


def wrong_modules(line: str) -> Iterator[str]:
    for name in re.findall(r"python3? -m ([\w.]+)|^(bench\.\w+)$", line):
        name = name[0] or name[1]
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            yield f"{name}: no such module"
    for name in re.findall(r"(?<![\w./-])se_server(?:\.\w+)+", line):
        if not is_importable(name):
            yield f"{name}: no such module or name"


def is_importable(dotted: str) -> bool:
    parts = dotted.split(".")
    found: object = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            try:
                found = importlib.import_module(".".join(parts[:depth]))
            except ModuleNotFoundError:
                return dotted in LOGGERS or dotted in ATTRIBUTES
        else:
            found = getattr(found, part)
    return True


LOGGERS = {"se_server.conversations"}
ATTRIBUTES = {  # of spans
    *re.findall(
        r'"(se_server\.[\w.]+)"', (ROOT / "src/se_server/server/observer/spans.py").read_text(encoding="utf-8")
    ),
    *(f"se_server.turn.{name}_s" for name in PART_NAMES),
}


def wrong_commands(line: str) -> Iterator[str]:
    of_checkout = {name: flags_of_module(module) for name, module, _ in bench._OF_CHECKOUT}
    for module, rest in re.findall(r"python -m (bench\.[\w.]+)([^|;&#]*)", line):
        for flag in set(FLAG.findall(rest)) - flags_of_module(module):
            yield f"{module} {flag}: no such option"
    for program, rest in re.findall(r"\b(se-(?:server|ctl|bench|chat|doctor))(?=\s)([^|;&#]*)", line):
        given = rest.split()
        command = new.command() if (program, *given[:1]) == ("se-server", "new") else commands()[program]
        if isinstance(command, click.Group):
            name = next(
                (word for word in given if not word.startswith("-") and not word.isupper() and "/" not in word), None
            )
            if name is not None and name not in command.list_commands(click.Context(command)):
                yield f"{program} {name}: no such command"
                continue
            allowed = of_checkout.get(name or "", flags_of_subcommand(command, name))
        else:
            allowed = flags_of(command) | FOREIGN_FLAGS
        for flag in FLAG.findall(rest):
            if flag not in allowed:
                yield f"{program} {flag}: no such option"
    environments, labels = tox_names()
    for names in re.findall(r"\btox (?:run |r )?-e ([\w,.-]+)", line):
        for name in names.split(","):
            if name not in environments:
                yield f"tox -e {name}: no such environment"
    for name in re.findall(r"\btox (?:run |r )?-m (\w+)", line):
        if name not in labels:
            yield f"tox -m {name}: no such label"


def flags_of_subcommand(group: click.Group, name: str | None) -> set[str]:
    """Return the options of one command of a group, and of the group itself; of all its commands without a name."""
    if name is None:
        return flags_of(group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    own = {flag for parameter in group.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return own | flags_of(command)


def wrong_extras(line: str) -> Iterator[str]:
    for names in re.findall(r"\bpip install .*?(?:se-server|\.)\[([\w,]+)\]", line):
        for name in set(names.split(",")) - extras():
            yield f"[{name}]: no such extra"


def wrong_toml(text: str) -> Iterator[str]:
    """Yield what is wrong in the blocks of TOML: scripts of conversations, logging, or options of se-server."""
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        try:
            content = tomllib.loads(block)
            if "steps" in content:
                parse_script(content, "the page", "script")
            elif not content.keys() & {"formatters", "handlers", "loggers", "root"}:
                yield from (f"{key}: no such option" for key in content if key not in (*BY_NAME, "routes"))
        except (tomllib.TOMLDecodeError, SpeechEngineError) as error:
            yield f"a block of TOML: {error}"


def wrong_python(text: str) -> Iterator[str]:
    """Yield what is wrong in the blocks of Python: their syntax, and names imported from se-server."""
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        try:
            tree = compile(textwrap.dedent(block), "page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield f"a block of Python: {error}"
            continue
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                f"import of {name}: no such module or name"
                for name in names
                if name.split(".")[0] == "se_server" and not is_importable(name)
            )


def wrong_flags(line: str) -> Iterator[str]:
    for flag in FLAG.findall(line):
        if flag not in all_flags():
            yield f"{flag}: no such option"


def wrong_names(line: str, *, thorough: bool) -> Iterator[str]:
    """Yield variables that nothing reads; on pages for contributors also identifiers that no source has."""
    variables = {option.variable for option in OPTIONS}
    for name in re.findall(r"\bSE_SERVER_[A-Z_]+\b", line):
        if name not in variables and "tcp://" not in line:
            yield f"{name}: no such environment variable"
    for name in re.findall(r"(?<![\w.])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", line):
        if name not in words() and name not in FOREIGN_NAMES and not name.startswith(("SE_SERVER_", "OTEL_")):
            yield f"{name}: no such name"
    if thorough and (found := re.fullmatch(r"@?([A-Za-z_][\w.]*)(?:\(.*\))?", line)) and "://" not in line:
        for name in found[1].split("."):
            if ("_" in name or name != name.lower()) and name not in words():
                yield f"{name}: no such name in the sources"


def problems(text: str, page: Path) -> list[str]:
    """Return what a page names that does not exist."""
    found = [*wrong_links(text, page), *wrong_toml(text), *wrong_python(text)]
    # Screens show mistakes, too.
    for line in code(text) if page.name != "screens.md" else ():
        found += wrong_paths(line, page)
        found += wrong_modules(line)
        found += wrong_commands(line)
        found += wrong_extras(line)
        found += wrong_flags(line)
        found += wrong_names(line, thorough=page in FOR_CONTRIBUTORS)
    return sorted(set(found))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_a_page_names_exists(page: Path) -> None:
    assert problems(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize(
    "planted",
    [
        "[a page](docs/nowhere.md)",
        "[a heading](README.md#nowhere)",
        "`src/se_server/server/desk.py`",
        "`server/door/nowhere.py`",
        "`nowhere.py`",
        "`tests/nowhere/`",
        "`python -m bench.nowhere`",
        "`se_server.nowhere.Thing`",
        "`se_server.errors.Nowhere`",
        "`--nowhere`",
        "`se-server --max-tries 3`",
        "`se-ctl nowhere`",
        "`se-bench nowhere`",
        "`se-bench compare --nowhere`",
        "`python -m bench.soak --nowhere`",
        "`se-chat ws://127.0.0.1:1/ --workers 3`",
        "`tox -e nowhere`",
        "`tox -m nowhere`",
        "`SE_SERVER_NOWHERE=1`",
        "`NO_SUCH_CONSTANT`",
        "`no_such_function(1)`",
        "`NoSuchClass`",
        "`python -m nowhere`",
        "`tox run -e nowhere`",
        "`tox -e fuzz,nowhere`",
        "`se-ctl reload --watch`",
        "`pip install '.[test,nowhere]'`",
        "```toml\nprt = 3001\n```\n",
        "```toml\nport = \n```\n",
        "```toml\n[[steps]]\nsayy = 'hello'\n```\n",
        "```python\nfrom se_server import Nowhere\n```\n",
        "```python\nimport se_server.nowhere\n```\n",
        "```python\nasync def f():\n    await\n```\n",
        "```sh\nse-server app.py --nowhere\n```\n",
        "    tox -e nowhere\n",
    ],
)
def test_a_wrong_name_is_found(planted: str) -> None:
    assert problems(f"# A page\n\n{planted}\n", ROOT / "CONTRIBUTING.md")
