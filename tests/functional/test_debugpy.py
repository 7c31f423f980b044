"""A developer whose editor holds a worker by debugpy is not taken for a worker that hangs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.processes import call, needs_proc, write_agent
from tests.functional.test_debugging import THOUGHT_S, debugged_server
from tests.helpers import ANSWER_TIMEOUT_S

pytest.importorskip("debugpy")
pytestmark = needs_proc

AGENT = """
    import debugpy, os
    VERSION = "one"

    def on_transcript(transcript, session):
        if transcript[-1].content == "debug":
            _, port = debugpy.listen(("127.0.0.1", 0))
            print(f"(Editor on {port})", flush=True)
            debugpy.wait_for_client()
            here = 1  # the breakpoint
        return session.send_response(f"{VERSION} {os.getppid()} {os.getpid()}")
"""
LINE = next(number for number, line in enumerate(AGENT.splitlines(), 1) if "the breakpoint" in line)


class Editor:
    """A client of the Debug Adapter Protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._sent = 0

    def send(self, command: str, **arguments: Any) -> None:
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async def until(self, name: str) -> dict[str, Any]:
        """Read until an event, or the response of a command, and return its body."""
        while True:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_S)
            size = int(head.partition(b":")[2])
            message = json.loads(await self._reader.readexactly(size))
            if name == (message.get("event") or message.get("command")):
                body: dict[str, Any] = message.get("body") or {}
                return body


async def test_the_watchdog_waits_for_an_editor(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with debugged_server(app, "--workers", "1") as (server, _):
        async with call(server) as caller:
            _, worker = await caller.ask()
            await caller.say("debug")
            found = await asyncio.to_thread(server.wait_for_output, r"\(Editor on (\d+)\)")
            await asyncio.sleep(THOUGHT_S)  # the developer looks for the right button
            reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
            editor = Editor(reader, writer)
            editor.send("initialize", adapterID="test", pathFormat="path", linesStartAt1=True)
            await editor.until("initialize")
            editor.send("attach", justMyCode=False)
            await editor.until("initialized")
            editor.send("setBreakpoints", source={"path": str(app)}, breakpoints=[{"line": LINE}])
            await editor.until("setBreakpoints")
            editor.send("configurationDone")
            stopped = await editor.until("stopped")
            await asyncio.sleep(THOUGHT_S)  # the developer thinks
            editor.send("continue", threadId=stopped["threadId"])
            assert (await caller.answer()).split()[-1] == str(worker)
            writer.close()
        assert "hangs" not in server.output()
