"""The keywords of servers, for type checkers: a misspelt handler or option is an error before the program runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any, Literal, TypedDict

Seconds = float | str
"""Seconds, or a text with a unit: `10`, `"500ms"`."""

Size = int | str
"""Bytes, or a text with a unit: `"64KiB"`."""

Callback = Callable[..., Any] | None


class HandlerKeywords(TypedDict, total=False):
    """The callbacks of a server, plain or coroutine functions."""

    on_init: Callback
    on_transcript: Callback
    on_close: Callback
    on_disconnect: Callback
    on_error: Callback
    on_interrupt: Callback


class SessionKeywords(TypedDict, total=False):
    """Times and limits of conversations; each is described on the page of options."""

    handover_s: Seconds | None
    end_timeout_s: Seconds | None
    superseded_transcripts: Literal["ack", "ignore"] | None
    retranscription: Literal["supersede", "adopt"] | None
    empty_answer_text: str | None
    hold_after_s: Seconds | Literal[False] | None
    answered_transcripts: Literal["replay", "ignore"] | None
    failed_transcripts: Literal["ignore", "retry"] | None
    finals: Literal["response", "turn"] | None
    settle_s: Seconds | None
    silence_turns: Literal["handle", "stay_silent"] | None
    first_word_after_s: Seconds | None
    first_word_text: str | Sequence[str] | None
    failure_text: str | None
    shape: str | bool | None
    speak_refusals: bool | None
    chunk_pace_s: Seconds | None
    takeover: bool | None
    turn_timeout_s: Seconds | None
    max_conversation_s: Seconds | None
    idle_timeout_s: Seconds | None
    max_answer_bytes: Size | None
    write_timeout_s: Seconds | None
    ping_interval_s: Seconds | None
    ping_timeout_s: Seconds | None
    first_message_timeout_s: Seconds | None
    max_messages_per_s: int | str | None
    max_messages_burst: int | str | None
    max_work_per_s: int | str | None
    max_control_frames_per_s: int | str | None
    max_message_bytes: Size | None
    max_fragments: int | str | None
    close_timeout_s: Seconds | None


class ServerKeywords(HandlerKeywords, SessionKeywords, total=False):
    """The keywords of `SpeechEngineServer` that are no parameters of their own."""

    require_header_file: str | None
    max_failed_handshakes_per_s: int | float | str | None


class ServeKeywords(ServerKeywords, total=False):
    """The keywords of `engine.serve()` that are no parameters of their own: those of the server it makes."""

    host: str | None
    ssl: SSLContext | None
    uds: str | None
    drain_timeout_s: float
    allow_ips: str | Sequence[str] | None
    require_header: str | None
    trusted_proxies: str | Sequence[str] | None
    proxy_protocol: bool
