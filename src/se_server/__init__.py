"""Serve ElevenLabs Speech Engine conversations on all cores.

Example:
    Run it with `se-server agent.py`, or call `asyncio.run(engine.serve(on_transcript=on_transcript))` in a program:

        from openai import AsyncOpenAI

        llm = AsyncOpenAI()

        async def on_transcript(transcript, session):
            roles = {"user": "user", "agent": "assistant"}
            messages = [{"role": roles[message.role], "content": message.content} for message in transcript]
            await session.send_response(await llm.responses.create(model="gpt-4o", input=messages, stream=True))

`SpeechEngineServer` serves in one process, `AsyncElevenLabs` and `ElevenLabs` manage engines over REST, and
`SpeechEngineSession` is the conversation that handlers get. The names have the shapes of the published SDK's.
"""

# Each name is imported when it is first used, so that `import se_server` costs next to nothing and a worker loads
# neither an HTTP client nor anything else it does not use.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from se_server.auth import verify_speech_engine_jwt
    from se_server.conversation.session import SpeechEngineSession
    from se_server.errors import (
        ApiConnectionError,
        ApiError,
        ApiTimeout,
        AppError,
        AuthenticationError,
        ConfigError,
        MessageError,
        PeerError,
        SessionClosed,
        SpeechEngineError,
        StreamFailed,
        UnknownStreamError,
        UnsupportedWebSocket,
        WrongThread,
    )
    from se_server.sdk.client import AsyncElevenLabs, ElevenLabs
    from se_server.sdk.models import SpeechEngineConfig
    from se_server.sdk.resource import SpeechEngineResource
    from se_server.sdk.server import SpeechEngineServer
    from se_server.streams.extractors import register_extractor
    from se_server.streams.hedging import first_of
    from se_server.types import (
        CLOSE,
        DISCONNECTED,
        ERROR,
        INIT,
        USER_TRANSCRIPT,
        ConversationMessage,
        Headers,
        WebSocketLike,
    )

    __version__: str

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ApiConnectionError",
    "ApiError",
    "ApiTimeout",
    "AppError",
    "AsyncElevenLabs",
    "AuthenticationError",
    "ConfigError",
    "ConversationMessage",
    "ElevenLabs",
    "Headers",
    "MessageError",
    "PeerError",
    "SessionClosed",
    "SpeechEngineConfig",
    "SpeechEngineError",
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "StreamFailed",
    "UnknownStreamError",
    "UnsupportedWebSocket",
    "WebSocketLike",
    "WrongThread",
    "__version__",
    "first_of",
    "register_extractor",
    "verify_speech_engine_jwt",
]

_NAMES_BY_MODULE = {
    "se_server.auth": ("verify_speech_engine_jwt",),
    "se_server.conversation.session": ("SpeechEngineSession",),
    "se_server.sdk.client": ("AsyncElevenLabs", "ElevenLabs"),
    "se_server.sdk.models": ("SpeechEngineConfig",),
    "se_server.sdk.resource": ("SpeechEngineResource",),
    "se_server.sdk.server": ("SpeechEngineServer",),
    "se_server.errors": (
        "ApiConnectionError",
        "ApiError",
        "ApiTimeout",
        "AppError",
        "AuthenticationError",
        "ConfigError",
        "MessageError",
        "PeerError",
        "SessionClosed",
        "SpeechEngineError",
        "StreamFailed",
        "UnknownStreamError",
        "UnsupportedWebSocket",
        "WrongThread",
    ),
    "se_server.streams.extractors": ("register_extractor",),
    "se_server.streams.hedging": ("first_of",),
    "se_server.types": (
        "CLOSE",
        "DISCONNECTED",
        "ERROR",
        "INIT",
        "USER_TRANSCRIPT",
        "ConversationMessage",
        "Headers",
        "WebSocketLike",
    ),
}
_HOMES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: Any
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = version("se-server")
        except PackageNotFoundError:
            value = "0+source"  # a source tree on the path, never installed
    else:
        value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
