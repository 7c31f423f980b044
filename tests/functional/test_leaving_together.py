"""Conversations that leave in the same step of the loop: their ends are spread over many steps."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct

import pytest

from se_server.auth import TokenVerifier, sign_token
from se_server.server.listen.sockets import bind
from tests.doors import make_door
from tests.frames import CLOSE, TEXT, frame
from tests.functional.test_door import Run, run, until  # noqa: F401
from tests.functional.test_ready_together import callers, request
from tests.helpers import TEST_API_KEY, transcript_message

COUNT = 300
MOST_IN_A_STEP = 80  # 32 are begun in one, and some of the step before end there, too
AT_ONCE = struct.pack("ii", 1, 0)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    sock.close()


def say_close(sock: socket.socket) -> None:
    sock.sendall(frame(CLOSE, b"\x03\xe8"))


@pytest.mark.parametrize("leave", [socket.socket.close, reset, say_close])
def test_conversations_that_leave_together_end_over_many_steps(run: Run, leave: object) -> None:  # noqa: F811
    cancelled = 0

    async def on_transcript(transcript: object, session: object) -> None:
        nonlocal cancelled
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled += 1

    async def scenario() -> None:
        loop, in_steps = asyncio.get_running_loop(), [0]
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), handlers={"on_transcript": on_transcript})
        door.open()
        hello = request(sign_token(TEST_API_KEY)) + frame(TEXT, transcript_message("hello").encode())
        with callers(sockets[0].getsockname()[1], COUNT) as peers:
            for peer in peers:
                peer.sendall(hello)
            await until(lambda: sum(session._is_answering() for session in door.sessions) == COUNT)

            def step() -> None:
                in_steps.append(cancelled)
                if cancelled < COUNT:
                    loop.call_soon(step)

            for peer in peers:
                leave(peer)  # type: ignore[operator]
            step()
            await until(lambda: cancelled == COUNT)
        await until(lambda: not door.sessions)
        await door.close()
        assert max(after - before for before, after in itertools.pairwise(in_steps)) <= MOST_IN_A_STEP

    run(scenario())
