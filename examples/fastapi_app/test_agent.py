"""The application's test: it is served by uvicorn, and called over a socket."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from se_server.simulator.caller import Caller


@pytest.fixture
def url():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "agent:app", "--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen(command)
    try:
        for _ in range(1000):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json").close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.05)
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        server.terminate()
        server.wait()


def test_it_answers_and_can_be_interrupted(url):
    asyncio.run(converse(url))


async def converse(url):
    async with Caller.connect(url, api_key=os.environ["ELEVENLABS_API_KEY"]) as caller:
        assert len((await caller.say("Good morning! Who are you?")).text.split()) > 2
        caller.utter("Tell me a long story.")
        reply = await caller.interrupt("Wait! What did you say?", after_chars=20)  # raises if it comes too late
        assert reply.text
