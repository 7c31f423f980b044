"""Programs for the published SDK send the same frames under `se-server run`, unchanged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_api import running_api
from tests.functional.scripts import OPENAI, PROGRAMS, quickstart
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    close_message,
    connect,
    environment,
    free_port,
    init_message,
    read_answer,
    spoken,
    transcript_message,
)

pytest.importorskip("elevenlabs")


@pytest.fixture(scope="module")
def api() -> Iterator[dict[str, str]]:
    """The variables of a REST API that has one engine."""
    with running_api(TEST_API_KEY) as running:
        yield {"API_URL": running.url, "ENGINE_ID": running.add_engine()}


async def frames(port: int) -> list[list[dict[str, Any]]]:
    """Hold a conversation of two turns; return the messages of each answer."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        try:
            async with connect(f"ws://127.0.0.1:{port}/ws") as caller:
                await caller.send(init_message())
                answers = []
                for event_id, said in enumerate(("hello", "good bye"), 1):
                    await caller.send(transcript_message(said, event_id=event_id))
                    answers.append(await read_answer(caller))
                await caller.send(close_message())
                return answers
        except ConnectionRefusedError:  # the published server does not tell when it listens
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


async def served(command: list[str], ports: list[int], env: dict[str, str]) -> list[list[list[dict[str, Any]]]]:
    """Run a program, and return the frames of a conversation at each of its ports."""
    with subprocess.Popen(command, env=environment(TEST_API_KEY, **env), stderr=subprocess.PIPE) as process:  # noqa: ASYNC220
        try:
            return [await frames(port) for port in ports]
        finally:
            process.terminate()
            _, log = await asyncio.to_thread(process.communicate, timeout=30)
            if "se_server" in command:
                assert b"the program gets se-server in place of elevenlabs.speech_engine" in log


@pytest.mark.parametrize("name", ["quickstart", *PROGRAMS])
async def test_frames_are_those_of_the_published_package(name: str, tmp_path: Path, api: dict[str, str]) -> None:
    file = tmp_path / "program.py"
    file.write_text(quickstart() if name == "quickstart" else PROGRAMS[name])
    (tmp_path / "openai.py").write_text(OPENAI)
    every = []
    for words in ([], ["-m", "se_server", "run"]):
        ports = [free_port() for _ in range(2 if name == "two engines" else 1)]
        arguments = ["--listen", str(ports[0])] if name == "arguments" else []
        options = ["--workers", "1", "--"] if words else []
        command = [sys.executable, *words, str(file), *options, *arguments]
        every.append((command, ports, {**api, "PORT": str(ports[0]), "OTHER_PORT": str(ports[-1])}))
    published, ours = await asyncio.gather(*(served(*each) for each in every))
    assert ours == published
    said = [[spoken(answer).removeprefix(" ").strip() for answer in answers] for answers in ours]
    assert all("you said" in text for answers in said for text in answers)
