"""The metrics of a server inside one process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.registry import CollectorRegistry

from se_server import __version__
from se_server.telemetry.collector import registry_of
from se_server.telemetry.counters import COUNTERS
from se_server.telemetry.families import Reading, open_conversations
from se_server.types import Stats


def metrics_of(stats: Stats, since_s: float, is_draining: Callable[[], bool]) -> CollectorRegistry:
    """Return a registry that reads the figures of `stats` when it is collected.

    Args:
        since_s: when the counts began, in seconds since 1970.
        is_draining: whether the server takes no new conversations.
    """

    def read() -> Reading:
        cells = stats.meters.cells()
        return Reading(
            version=__version__,
            started_at_s=since_s,
            counters={name: getattr(stats, name) for name in COUNTERS},
            cells=cells,
            conversations=open_conversations(cells),
            draining=is_draining(),
        )

    return registry_of(read)
