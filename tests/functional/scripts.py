"""Programs for the published SDK, as users write them; `test_run_matrix.py` runs each unchanged under both packages.

They read their ports from the environment. Each answers `you said ...` in its own way.
"""

from __future__ import annotations

import importlib.metadata
import re
import textwrap

_CLIENT = 'AsyncElevenLabs(base_url=os.environ["API_URL"])'

_CLASS = """
    import asyncio, os
    from elevenlabs.speech_engine import ConversationMessage, SpeechEngineServer, SpeechEngineSession

    class Agent:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        async def on_transcript(self, transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
            await session.send_response(f"{self.greeting} {transcript[-1].content}")

        async def on_close(self, session: SpeechEngineSession) -> None:
            print("closed", flush=True)

    if __name__ == "__main__":
        agent = Agent("you said")
        server = SpeechEngineServer(
            port=int(os.environ["PORT"]), path="/ws", on_transcript=agent.on_transcript, on_close=agent.on_close
        )
        asyncio.run(server.serve())
"""

_EVENTS = """
    import asyncio, os
    from elevenlabs.speech_engine import USER_TRANSCRIPT
    from elevenlabs.speech_engine.server import SpeechEngineServer

    async def never(transcript):
        raise AssertionError("this handler was taken away")

    async def on_init(conversation_id, session):
        async def first(transcript):
            await session.send_response("you said, first, " + transcript[-1].content)

        async def answer(transcript):
            if transcript[-1].content != "hello":
                await session.send_response("you said " + transcript[-1].content)

        session.on(USER_TRANSCRIPT, never).off(USER_TRANSCRIPT, never)
        session.once("user_transcript", first)
        session.on("user_transcript", answer)

    asyncio.run(SpeechEngineServer(port=int(os.environ["PORT"]), on_init=on_init).serve())
"""

_OWN_LOOP = """
    import asyncio, os, signal
    from elevenlabs.speech_engine import SpeechEngineServer

    async def on_transcript(transcript, session):
        await session.send_response("you said " + transcript[-1].content)

    server = SpeechEngineServer(port=int(os.environ["PORT"]), on_transcript=on_transcript)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    serving = loop.create_task(server.serve())
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(server.stop()))
    try:
        loop.run_until_complete(serving)
    finally:
        loop.close()
"""

_TWO_ENGINES = f"""
    import asyncio, os
    from elevenlabs.client import AsyncElevenLabs

    def agent(name):
        async def on_transcript(transcript, session):
            await session.send_response(f"{{name}}: you said {{transcript[-1].content}}")
        return on_transcript

    async def main():
        client = {_CLIENT}
        sales = await client.speech_engine.get(os.environ["ENGINE_ID"])
        support = await client.speech_engine.get(os.environ["ENGINE_ID"])
        await asyncio.gather(
            sales.serve(port=int(os.environ["PORT"]), path="/ws", on_transcript=agent("sales")),
            support.serve(port=int(os.environ["OTHER_PORT"]), path="/ws", on_transcript=agent("support")),
        )

    if __name__ == "__main__":
        asyncio.run(main())
"""

_SYNC_CLIENT = """
    import asyncio, os
    from elevenlabs import ElevenLabs

    engine = ElevenLabs(base_url=os.environ["API_URL"]).speech_engine.get(os.environ["ENGINE_ID"])

    async def reply(transcript, session):
        await session.send_response("you said " + transcript[-1].content)

    asyncio.run(engine.serve(port=int(os.environ["PORT"]), on_transcript=reply))
"""

_ARGUMENTS = """
    import argparse
    import uvloop
    from elevenlabs.speech_engine import SpeechEngineServer

    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, required=True)
    arguments = parser.parse_args()

    def on_transcript(transcript, session):
        async def words():
            for word in ("you ", "said ", transcript[-1].content):
                yield word
        return session.send_response(words())

    uvloop.run(SpeechEngineServer(port=arguments.listen, on_transcript=on_transcript).serve())
"""

_ANYIO = """
    import os
    import anyio
    from elevenlabs.speech_engine import SpeechEngineServer

    async def on_transcript(transcript, session):
        await session.send_response("you said " + transcript[-1].content)

    async def main():
        server = SpeechEngineServer(port=int(os.environ["PORT"]), on_transcript=on_transcript)
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve)

    anyio.run(main)
"""

_SUBCLASS = """
    import asyncio, os
    from elevenlabs.speech_engine import SpeechEngineServer, SpeechEngineSession

    class Server(SpeechEngineServer):
        def handle_connection(self, ws):
            session = super().handle_connection(ws)

            async def answer(transcript):
                assert isinstance(session, SpeechEngineSession)
                await session.send_response("you said " + transcript[-1].content)

            session.on("user_transcript", answer)
            return session

    asyncio.run(Server(port=int(os.environ["PORT"])).serve())
"""

_OPENAI = """
    from types import SimpleNamespace

    class AsyncOpenAI:
        @property
        def responses(self):
            return self

        async def create(self, *, model, input, stream):
            async def events():
                yield SimpleNamespace(type="response.created")
                for text in ("you said ", input[-1]["content"]):
                    yield SimpleNamespace(type="response.output_text.delta", delta=text)
                yield SimpleNamespace(type="response.completed")
            return events()
"""
OPENAI = textwrap.dedent(_OPENAI)
"""A module `openai` for the quickstart, which streams without a network."""

PROGRAMS = {
    name: textwrap.dedent(text)
    for name, text in {
        "class": _CLASS,
        "events": _EVENTS,
        "own loop": _OWN_LOOP,
        "two engines": _TWO_ENGINES,
        "sync client": _SYNC_CLIENT,
        "arguments": _ARGUMENTS,
        "anyio": _ANYIO,
        "subclass": _SUBCLASS,
    }.items()
}


def quickstart() -> str:
    """Return the quickstart of the installed package's README, with the addresses of a test."""
    page = importlib.metadata.metadata("elevenlabs")
    text = str(page.get_payload() or page["Description"])
    found = re.search(r"### Quick Start\s+```python\n(import asyncio.*?)```", text, re.DOTALL)
    assert found is not None
    program = found[1].replace("port=3001", 'port=int(__import__("os").environ["PORT"])')
    program = program.replace('"seng_123"', '__import__("os").environ["ENGINE_ID"]')
    return program.replace("AsyncElevenLabs()", 'AsyncElevenLabs(base_url=__import__("os").environ["API_URL"])')
