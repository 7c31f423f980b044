"""Programs that type checkers accept, in strict mode: those that are typed against the published SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Dict, List, Optional

from se_server import AsyncElevenLabs, ElevenLabs, SpeechEngineConfig, first_of
from se_server.history import as_anthropic, as_gemini, as_openai
from se_server.speech_engine import (
    CLOSE,
    DISCONNECTED,
    ERROR,
    INIT,
    USER_TRANSCRIPT,
    ConversationMessage,
    SpeechEngineResource,
    SpeechEngineServer,
    SpeechEngineSession,
    WebSocketLike,
)

# --- handlers -------------------------------------------------------------------------------------------------------


async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
    session.customer = {"name": "Ann", "id": conversation_id}
    session.turns = 0


async def on_transcript(transcript: List[ConversationMessage], session: SpeechEngineSession) -> None:
    messages: list[dict[str, Any]] = [message.model_dump() for message in transcript]
    history: list[Any] = [{"role": "system", "content": "x"}, *messages]
    roles: list[str] = [message.role for message in transcript]
    session.turns += 1
    await session.send_response(f"{session.customer['name']} {len(history)} {roles}")
    heard = await session.send_response(words(), final=False)
    if not heard:
        return
    conversation_id: Optional[str] = session.conversation_id
    print(conversation_id, session.is_open, session.headers.get("x-caller"), session.path)


async def words() -> AsyncIterator[str]:
    yield "one"


async def on_transcript_shaped(transcript: List[ConversationMessage], session: SpeechEngineSession) -> None:
    """Use names that the published SDK lacks."""
    messages: list[Any] = as_openai(transcript, system="Be brief.")
    keywords: dict[str, Any] = as_anthropic(transcript, system="Be brief.")
    contents: list[Any] = as_gemini(transcript)
    hedge = first_of(words(), words, "Sorry.", after_s=1)
    await session.send_response(hedge, shape="plain, sentences")
    winner: Optional[int] = hedge.winner
    print(messages, keywords, contents, winner, session.turn and session.turn.winner)


def on_close(session: SpeechEngineSession) -> None:
    print(session)


def on_error(error: Exception, session: SpeechEngineSession) -> None:
    print(error, session)


# --- events ---------------------------------------------------------------------------------------------------------


async def by_events(session: SpeechEngineSession) -> None:
    def heard(transcript: List[ConversationMessage]) -> None:
        print(transcript)

    session.on(USER_TRANSCRIPT, heard).on("init", print).once(INIT, print)
    session.on(CLOSE, lambda: None).on(DISCONNECTED, lambda: None)
    session.off("user_transcript", heard)

    @session.on("error")
    def failed(error: Exception) -> None:
        print(error)

    session.on(ERROR, failed)
    await session.run()
    session.close()


# --- overrides with the published signatures ------------------------------------------------------------------------

Callback = Callable[..., Any]


class Session(SpeechEngineSession):
    def __init__(self, ws: Any, *, debug: bool = False) -> None:
        super().__init__(ws, debug=debug)
        self.log: List[str] = []

    def on(self, event: str, handler: Callback) -> SpeechEngineSession:
        self.log.append(event)
        return self

    def off(self, event: str, handler: Callback) -> SpeechEngineSession:
        return self

    def once(self, event: str, handler: Callback) -> SpeechEngineSession:
        return self

    async def run(self) -> None:
        await super().run()

    async def send_response(self, response: Any) -> None:
        await super().send_response(response)

    def close(self) -> None:
        super().close()


class Server(SpeechEngineServer):
    def __init__(
        self,
        *,
        port: int = 3001,
        path: Optional[str] = None,
        api_key: Optional[str] = None,
        debug: bool = False,
        disable_auth: bool = False,
        **handlers: Any,
    ) -> None:
        super().__init__(port=port, path=path, api_key=api_key, debug=debug, disable_auth=disable_auth, **handlers)

    def handle_connection(self, ws: WebSocketLike) -> SpeechEngineSession:
        session = super().handle_connection(ws)
        session.customer = "Ann"
        return session

    async def serve(self) -> None:
        await super().serve()

    async def stop(self) -> None:
        await super().stop()


class Resource(SpeechEngineResource):
    def verify_request(self, headers: Dict[str, Any]) -> bool:
        return super().verify_request(headers)

    async def serve(
        self,
        *,
        port: int = 3001,
        path: Optional[str] = None,
        debug: bool = False,
        disable_auth: bool = False,
        **handlers: Any,
    ) -> None:
        await super().serve(port=port, path=path, debug=debug, disable_auth=disable_auth, **handlers)

    def create_session(self, ws: WebSocketLike, *, debug: bool = False) -> SpeechEngineSession:
        return super().create_session(ws, debug=debug)


# --- servers and clients --------------------------------------------------------------------------------------------


async def serve() -> None:
    client = AsyncElevenLabs(api_key="key")
    engine = await client.speech_engine.get("seng_1")
    await engine.serve(port=3001, path="/ws", debug=True, on_init=on_init, on_transcript=on_transcript)
    await engine.serve(on_close=on_close, on_disconnect=on_close, on_error=on_error, max_message_bytes="64KiB")
    server = SpeechEngineServer(port=3001, api_key="key", on_transcript=on_transcript, ping_timeout_s=10)
    await server.serve()
    options: Dict[str, Any] = {"on_transcript": on_transcript}
    await engine.serve(**options)
    copy = await client.speech_engine.duplicate("seng_1", name="copy")
    record = await client.agents.conversations.get("conv_1")
    print(copy.engine_id, record.status)


def manage() -> None:
    client = ElevenLabs(api_key="key")
    config = SpeechEngineConfig(
        ws_url="wss://x", request_headers={"A": "b", "C": {"secret_id": "s"}, "D": {"variable_name": "v"}}
    )
    engine = client.speech_engine.create(speech_engine=config, vad={"background_voice_detection": True})
    client.speech_engine.update(engine.engine_id, overrides={"first_message": True}, vad=None)
    print(config.model_dump_json(), client.conversational_ai.conversations.get_signed_url(agent_id="seng_1"))
