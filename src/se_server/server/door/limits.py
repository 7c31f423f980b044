"""The limits of a peer before it has a conversation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a peer before it has a conversation.

    Attributes:
        head_timeout_s: seconds for a whole request head, from the connection or from the head's first byte.
        keep_alive_s: seconds that a connection may idle between plain requests; longer than the check intervals of
            load balancers.
        linger_s: seconds that a refused peer may go on sending before the connection is dropped.
        max_linger_bytes: bytes that it may send in that time.
        max_head_bytes: size of request line and headers, line ends included.
        max_headers: number of header lines.
        max_resting: connections between two plain requests; beyond it the one that rests longest is closed.
        max_pipelined: plain requests answered per read; the connection is closed after more.
    """

    head_timeout_s: float = 5.0
    keep_alive_s: float = 75.0
    linger_s: float = 1.0
    max_linger_bytes: int = 1 << 20
    max_head_bytes: int = 16384
    max_headers: int = 100
    max_pipelined: int = 16
    max_resting: int = 1024
