"""The servers with an LLM package behind them: each target's command with the agent that asks a provider."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.kernel import BenchError, Server, Target, running
from bench.load.targets import HANDLER, JAVASCRIPT, TARGETS, UVICORN

__all__ = ["APIS", "need_package", "serving_llm", "with_agent"]

AGENT = Path(__file__).with_name("llm_agent.py")
AGENT_MODULE = "bench.load.targets.llm_agent"
AGENT_JAVASCRIPT = "./llm_handler.cjs"
APIS = ("openai", "anthropic", "gemini")
_MODULES = {
    "openai": ("openai",),
    "openai over aiohttp": ("openai", "aiohttp"),
    "anthropic": ("anthropic",),
    "google-genai": ("google.genai",),
}


def need_package(package: str) -> None:
    """Check that an LLM package is installed.

    Raises:
        BenchError: it is not.
    """
    for module in _MODULES[package]:
        try:
            is_there = find_spec(module) is not None
        except ImportError:
            is_there = False
        if not is_there:
            raise BenchError(f"the package of {module} is not installed; pip install '.[bench-llm]' brings it")


def with_agent(target: Target, package: str, base_url: Callable[[str], str]) -> Target:
    """Return a target that answers each turn with a stream of an LLM package."""
    settings = {"package": package, "urls": {api: base_url(api) for api in APIS}}
    environment = {**target.environment, "SE_BENCH_LLM": json.dumps(settings)}
    command = target.command
    if str(HANDLER) in command:
        command = tuple(str(AGENT) if part == str(HANDLER) else part for part in command)
        return dataclasses.replace(target, command=command, environment=environment)
    environment.setdefault("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    if target.name == JAVASCRIPT.name:
        environment["BENCH_HANDLER"] = AGENT_JAVASCRIPT
    elif target.name == UVICORN.name:
        environment["BENCH_HANDLER"] = AGENT_MODULE
    else:
        command = (*command, AGENT_MODULE)
    return dataclasses.replace(target, command=command, environment=environment)


@contextmanager
def serving_llm(name: str, package: str, core: int, base_url: Callable[[str], str]) -> Iterator[Server]:
    """Run the target of a name with an LLM package, whose provider is at these base URLs."""
    with running(with_agent(TARGETS[name], package, base_url), core) as server:
        yield server
