"""Options of an APP that is a `SpeechEngineServer`, reports of those not taken, and of a slow start."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.helpers import connect, read_answer, running_server, spoken, transcript_message

APP = """
import ssl
from se_server import SpeechEngineServer

async def answer(transcript, session):
    await session.send_response(session.remote)

server = SpeechEngineServer(on_transcript=answer, {options})
"""
HIS = "path='/agent', max_message_bytes=2000, trusted_proxies='127.0.0.1', allow_ips='198.51.100.7'"
LATE = "port=8080, host='192.0.2.1', drain_timeout_s=3, disable_auth=True, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"
FROM = {"X-Forwarded-For": "198.51.100.7"}


def app(folder: Path, options: str) -> str:
    file = folder / "agent.py"
    file.write_text(APP.format(options=options))
    return f"{file}:server"


async def test_what_it_says_of_conversations_holds(tmp_path: Path) -> None:
    with running_server(app=app(tmp_path, HIS)) as server:
        assert server.url.endswith("/agent")
        for url, headers, status in ((server.url[:-1], FROM, "404"), (server.url, {}, "403")):
            with pytest.raises(InvalidStatus, match=status):
                async with connect(url, headers=headers):
                    raise AssertionError("unreachable: it was let in")
        async with connect(server.url, headers=FROM) as caller:
            await caller.send(transcript_message("where from?"))
            assert spoken(await read_answer(caller)) == "198.51.100.7"
            await caller.send(transcript_message("x" * 2000))
            with pytest.raises(ConnectionClosed) as closed:
                await read_answer(caller)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        assert "not taken" not in server.output()


async def test_what_the_command_says_wins(tmp_path: Path) -> None:
    args = ("--path", "/ws", "--max-message-bytes", "1MiB", "--allow-ips", "127.0.0.1")
    with running_server(*args, app=app(tmp_path, HIS)) as server:
        assert server.url.endswith("/ws")
        async with connect(server.url) as caller:
            await caller.send(transcript_message("x" * 2000))
            assert spoken(await read_answer(caller)).startswith("127.0.0.1:")


async def test_late_options_are_named_once(tmp_path: Path) -> None:
    with running_server(app=app(tmp_path, LATE)) as server:
        found = server.wait_for_output(r"APP '\S+' sets options .* give (.*)")
        # Host and port are given on the command line already.
        assert set(found[1].split(", ")) == {"--disable-auth", "--drain-timeout-s", "--certfile"}
        with pytest.raises(InvalidStatus, match="401"):
            async with connect(server.url, None):
                raise AssertionError("unreachable: it was let in")
    assert server.output().count("does not take from an APP") == 1


async def test_workers_call_the_servers_handle_connection(tmp_path: Path) -> None:
    file = tmp_path / "agent.py"
    file.write_text(
        "from se_server import SpeechEngineServer\n"
        "class Mine(SpeechEngineServer):\n"
        "    def handle_connection(self, ws):\n"
        "        session = super().handle_connection(ws)\n"
        "        async def answer(transcript):\n"
        "            await session.send_response(ws.request.headers['X-Customer'] * len(transcript[-1].content))\n"
        "        return session.on('user_transcript', answer)\n"
        "server = Mine()\n"
    )
    with running_server("--max-message-bytes", "2000", app=f"{file}:server") as server:
        async with connect(server.url, headers={"X-Customer": "Ann"}) as caller:
            await caller.send(transcript_message("hi"))
            assert spoken(await read_answer(caller)) == "AnnAnn"
            await caller.send(transcript_message("x" * 2000))
            with pytest.raises(ConnectionClosed):
                await read_answer(caller)


def test_slow_on_startup_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "agent.py"
    file.write_text(
        "import asyncio\n"
        "from se_server.server.worker import worker\n"
        "worker.SLOW_START_S = 0.05\n"
        "async def on_startup():\n"
        "    await asyncio.sleep(0.6)\n"
        "async def on_transcript(transcript, session): ...\n"
    )
    with running_server(app=str(file), workers=1) as server:
        assert f"on_startup of {file} has taken 0.05 s so far" in server.output()
