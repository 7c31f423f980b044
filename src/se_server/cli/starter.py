"""The files that `se-server new` writes: an agent on an LLM, its test, and what installs and ships it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Llm:
    """An LLM package, as the starting project uses it.

    Attributes:
        package: its distribution, as a requirement.
        key: the environment variable of its API key.
        model: the model that the project begins with.
        imports: the line that imports its client.
        history: the function of `se_server.history`.
        kind, opened: the client's class, and the expression that makes the client, a context manager.
        request: the expression that asks the model.
    """

    package: str
    key: str
    model: str
    imports: str
    history: str
    kind: str
    opened: str
    request: str


LLMS = {
    "openai": Llm(
        "openai>=2",
        "OPENAI_API_KEY",
        "gpt-5-mini",
        "from openai import AsyncOpenAI",
        "as_openai",
        "AsyncOpenAI",
        'AsyncOpenAI(api_key=os.environ["OPENAI_API_KEY"])',
        "llm.responses.create(model=MODEL, instructions=SYSTEM, input=as_openai(transcript), stream=True)",
    ),
    "anthropic": Llm(
        "anthropic>=1",
        "ANTHROPIC_API_KEY",
        "claude-haiku-4-5",
        "from anthropic import AsyncAnthropic",
        "as_anthropic",
        "AsyncAnthropic",
        'AsyncAnthropic(api_key=os.environ["ANTHROPIC_API_KEY"])',
        "llm.messages.create(\n"
        "        **as_anthropic(transcript, system=SYSTEM), model=MODEL, max_tokens=500, stream=True\n"
        "    )",
    ),
    "gemini": Llm(
        "google-genai>=2",
        "GEMINI_API_KEY",
        "gemini-2.5-flash",
        "from google import genai",
        "as_gemini",
        "genai.client.AsyncClient",
        'genai.Client(api_key=os.environ["GEMINI_API_KEY"]).aio',
        "llm.models.generate_content_stream(**as_gemini(transcript, system=SYSTEM), model=MODEL)",
    ),
}
"""The LLM packages to choose from, by the value of `--llm`."""

AGENT = '''"""The agent: `se-server agent.py`, or `se-server agent.py --playground` to speak with it in a browser."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

{imports}

from se_server import ConversationMessage, SpeechEngineSession
from se_server.history import {history}

MODEL = os.environ.get("MODEL", "{model}")
SYSTEM = "You are on the telephone. Answer in one or two short sentences, without lists."

llm: {kind}


async def on_startup() -> AsyncIterator[None]:
    """Hold one client in each worker; what follows the `yield` runs at the worker's end."""
    global llm
    async with {opened} as llm:
        yield


async def on_transcript(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
    """Speak the model's answer. When the user interrupts, this is cancelled and the request ends."""
    await session.send_response(ask(transcript), shape="plain")


def ask(transcript: list[ConversationMessage]) -> Any:
    """Ask the model; the answer is streamed. The tests replace this function."""
    return {request}
'''

TEST = '''"""The agent's tests: `pytest`. They need no key and no network, and waiting takes no real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import agent
import pytest

from se_server.testing import Caller, Habits, MakeCaller

pytestmark = pytest.mark.se_app("agent.py")


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer in the model's place, as slowly as a model does."""

    async def ask(transcript: list[Any]) -> AsyncIterator[str]:
        await asyncio.sleep(0.8)
        for word in f"**You said:** {{transcript[-1].content}}".split():
            yield word + " "
            await asyncio.sleep(0.05)

    monkeypatch.setenv("{key}", "none")
    monkeypatch.setattr(agent, "ask", ask)


async def test_it_answers_in_time(caller: Caller) -> None:
    reply = await caller.say("Hello?")
    assert reply.text.strip() == "You said: Hello?"
    assert reply.first_word_s is not None
    assert reply.first_word_s < 2.5


async def test_it_stops_when_the_user_speaks(caller: Caller) -> None:
    interruption = caller.interrupt("Wait!", after_chars=15)
    first = await caller.say("Please say all of this sentence after me.")
    assert first.is_interrupted
    assert "Wait!" in (await interruption).text


async def test_it_handles_the_habits_of_the_live_api(make_caller: MakeCaller) -> None:
    caller = make_caller(habits=Habits.live())
    await caller.say("Hello?")
    await caller.say("And what else?")
    assert caller.summary().is_ok, caller.summary().problems
'''

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["se-server", "{package}"]

[project.optional-dependencies]
dev = ["pytest>=8", "watchfiles>=1"]  # the latter for --reload

[tool.setuptools]
py-modules = ["agent"]

[tool.pytest.ini_options]
testpaths = ["."]
"""

DOCKERFILE = """# docker build -t {name} . && docker run -p 3001:3001 -e ELEVENLABS_API_KEY -e {key} {name}
FROM python:3.13-slim AS build
# se-server is compiled if there is no wheel for this image; wheels in the folder wheels/ are used first.
{wheel}RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY . .
RUN mkdir -p wheels && python -m venv /opt/agent && /opt/agent/bin/pip install --no-cache-dir --find-links=wheels .

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin agent
COPY --from=build /opt/agent /opt/agent
ENV PATH=/opt/agent/bin:$PATH PYTHONUNBUFFERED=1 SE_SERVER_LOG_FORMAT=json
USER 10001
EXPOSE 3001
# A stop lets running conversations end: docker stop --timeout 40
STOPSIGNAL SIGTERM
ENTRYPOINT ["se-server", "agent"]
"""

CLONE = """# This se-server is a clone's; first:
#   .venv/bin/pip install build && .venv/bin/python -m build --sdist --outdir wheels {clone}
"""

README = """# {name}

    python3 -m venv .venv && .venv/bin/pip install {clone}-e '.[dev]'
    .venv/bin/pytest                                               # needs no key
    {key}=... .venv/bin/se-server agent.py --playground --reload   # speak with it in a browser
    ELEVENLABS_API_KEY=... {key}=... .venv/bin/se-server agent.py  # serve the API; then: se-doctor wss://your.host/
"""

IGNORED = """.venv/
__pycache__/
*.egg-info/
.pytest_cache/
.env
"""


def project_name(folder: str) -> str:
    """Return a distribution's name for a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") or "agent"


def project_files(folder: str, llm: Llm, clone: str = "") -> dict[str, str]:
    """Return the texts of the project's files by their names; `clone` is an argument of pip that installs se-server."""
    wheel = CLONE.format(clone=clone.strip()) if clone else ""
    fields = {**vars(llm), "name": project_name(folder), "clone": clone, "wheel": wheel}
    return {
        "agent.py": AGENT.format_map(fields),
        "test_agent.py": TEST.format_map(fields),
        "pyproject.toml": PYPROJECT.format_map(fields),
        "Dockerfile": DOCKERFILE.format_map(fields),
        "README.md": README.format_map(fields),
        ".gitignore": IGNORED,
        ".dockerignore": ".git\n" + IGNORED,
    }
