"""The values that bound one conversation, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SessionSettings:
    """Limits and times of a session. The defaults are what is served and measured.

    Attributes:
        debug: print what happens, in lines that start with `[SpeechEngine]`.
        handover_s: how long a superseded handler may clean up before the next turn starts without it.
        stray_report_s: after how long a cancelled handler that still runs is reported.
        max_stray_handlers: how many cancelled handlers of one session may still run before a new turn is refused.
        max_pending_events: how many events may wait for user code; beyond it the newest is dropped and logged.
        end_timeout_s: how long user code may go on after the conversation ended.
        stream_close_s: how long closing an answer's stream is waited for.
        write_high_water_bytes: unsent bytes above which an answer waits for the peer.
        write_timeout_s: how long a peer may stay above the mark before it is dropped.
        ping_interval_s: a connection quiet for this long gets a WebSocket ping.
        ping_timeout_s: how long the answer to that ping is waited for before the connection is dropped.
        first_message_timeout_s: a connection that sent no message this long after its upgrade is closed.
        max_messages_per_s: how many messages a second a connection may send for long.
        max_messages_burst: how many of them may come at once, to within 64.
        max_control_frames_per_s: how many pings and pongs a second a connection may send.
        max_message_bytes: the largest message accepted.
        max_fragments: the most fragments of one message accepted.
        close_timeout_s: how long the close handshake is waited for.
    """

    debug: bool = False
    handover_s: float = 0.05
    stray_report_s: float = 1.0
    max_stray_handlers: int = 32
    max_pending_events: int = 64
    end_timeout_s: float = 30.0
    stream_close_s: float = 0.5
    write_high_water_bytes: int = 64 * 1024
    write_timeout_s: float = 30.0
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    first_message_timeout_s: float = 30.0
    max_messages_per_s: int = 1000
    max_messages_burst: int = 2000
    max_control_frames_per_s: int = 100
    max_message_bytes: int = 1024 * 1024
    max_fragments: int = 1024
    close_timeout_s: float = 5.0


DEFAULT_SETTINGS = SessionSettings()
