"""Each folder of examples/, run by its own tests against the fake provider; one answer is interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from se_server import ElevenLabs
from tests.fake_api import running_api
from tests.helpers import TEST_API_KEY
from tests.providers import Provider, Request, Script, provider_in_thread
from tests.providers.script import Tool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXT = "I am an agent on the telephone, and I tell you gladly what I know about it. " * 2
ANSWER = Script(text=TEXT, tokens_per_s=100, first_token_s=0.02)
# The answer that is interrupted: it goes on for seconds, however late the example's process reads its beginning.
LONG = ANSWER.but(text=TEXT * 20)
LOOK_UP = Script(text="", tools=(Tool("order_status", '{"number": 42}'),))

NEEDS = {
    "anthropic_messages": ("anthropic",),
    "database": ("openai",),
    "fastapi_app": ("fastapi", "uvicorn", "websockets", "openai"),
    "google_genai": ("google.genai",),
    "hedged": ("openai", "anthropic"),
    "langgraph_agent": ("langgraph", "langchain_openai"),
    "litellm_router": ("litellm",),
    "mistral": ("mistralai",),
    "openai_agents": ("agents",),
    "openai_chat": ("openai",),
    "openai_responses": ("openai",),
    "plain_http": ("aiohttp",),
    "pydantic_ai_agent": ("pydantic_ai", "openai"),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with provider_in_thread(ANSWER) as provider:
        script_for = provider._script_for

        def choose(request: Any) -> Script:
            messages = request.body.get("messages") or [{}]
            asks = request.body.get("tools") and "order" in str(messages[-1].get("content"))
            if asks and messages[-1]["role"] == "user":
                return LOOK_UP
            return LONG if is_interrupted(request) else script_for(request)

        provider._script_for = choose  # type: ignore[method-assign]
        yield provider


def is_interrupted(request: Request) -> bool:
    """Whether the example's test interrupts the answer to this request."""
    asked = str(request.body)
    return any(said in asked for said in ("Tell me a long story.", "what is in it?")) and "Wait!" not in asked


def is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def environment(provider: Provider) -> dict[str, str]:
    """Return the environment of an example, in which each package's base URL is the provider's."""
    openai, anthropic = provider.base_url("openai"), provider.base_url("anthropic")
    names = ("OPENAI", "ANTHROPIC", "GEMINI", "MISTRAL")
    return {
        **os.environ,
        **{f"{name}_API_KEY": "none" for name in names},
        "OPENAI_BASE_URL": openai,
        "OPENAI_API_BASE": openai,
        "ANTHROPIC_BASE_URL": anthropic,
        "GOOGLE_GEMINI_BASE_URL": provider.base_url("gemini"),
        "MISTRAL_BASE_URL": provider.base_url("mistral"),
        "ELEVENLABS_API_KEY": TEST_API_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        # Plugins that the environment happens to have would cost each run a second.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def test_every_example_is_tested() -> None:
    folders = {folder.name for folder in EXAMPLES.iterdir() if (folder / "agent.py").exists()}
    assert folders == {*NEEDS, "booking"}  # which has its own provider, and is tested with the pytest plugin


@pytest.mark.parametrize("name", NEEDS)
def test_examples_are_short(name: str) -> None:
    assert 15 <= len((EXAMPLES / name / "agent.py").read_text().splitlines()) <= 65
    assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 6


@pytest.mark.parametrize("name", NEEDS)
def test_examples_answer_and_are_interrupted(name: str, provider: Provider) -> None:
    missing = [module for module in NEEDS[name] if not is_there(module)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: `tox -e llm` installs all")
    provider.run(provider.idle())
    provider.reset()
    ran = run_tests(EXAMPLES / name, environment(provider))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    provider.run(provider.idle())
    ended = [request for request in provider.requests if "disconnected" in repr(request)]
    assert ended, provider.requests
    assert all(map(is_interrupted, ended)), provider.requests
    assert len(ended) == 1 or name == "hedged", provider.requests  # whose backup may have been asked, too
    if name == "database":
        assert "it leaves the warehouse on Friday" in str(provider.requests[1].body)


def run_tests(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "se_server.testing.plugin", "."]
    with running_api(TEST_API_KEY) as api:
        engines = ElevenLabs(api_key=TEST_API_KEY, base_url=api.url).speech_engine
        engine = engines.create(speech_engine={"ws_url": "wss://your.host/ws"})
        more = {"ELEVENLABS_BASE_URL": api.url, "ENGINE_ID": engine.engine_id}
        return subprocess.run(
            command, cwd=folder, env={**environment, **more}, capture_output=True, text=True, timeout=100, check=False
        )
