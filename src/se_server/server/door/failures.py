"""Limits the failed handshakes of each client address, for servers that strangers can reach.

Only failures are counted, and only failures are limited: a request that would be admitted never asks. All calls of the
API come from a few addresses, so a limit on all handshakes of an address would stop them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from se_server.server.door.clients import Client

MAX_ADDRESSES = 4096  # of those that failed latest; some 200 bytes each
_V6_PREFIX = 64  # the smallest network that a customer gets: its addresses are one client's
COUNTED = frozenset((400, 401, 403, 404, 405, 408, 413, 426, 431))


class FailureLimit:
    """Counts failed handshakes by the client's address.

    Each address may fail `per_s` times at once, at least once; what it has used comes back at this rate.

    Args:
        per_s: failures a second.
        clock: monotonic seconds.
    """

    __slots__ = ("_burst", "_clock", "_left", "_per_s")

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s)
        self._clock = clock
        self._left: OrderedDict[int | str, tuple[float, float]] = OrderedDict()  # failures left, at that time

    def __len__(self) -> int:
        return len(self._left)

    def fail(self, client: Client) -> bool:
        """Count a failure; return whether the client has failed too often.

        Args:
            client: all clients whose address is unknown count as one.
        """
        key = _key_of(client)
        now_s = self._clock()
        left, then_s = self._left.pop(key, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._per_s)
        is_too_often = left < 1.0
        self._left[key] = (left if is_too_often else left - 1.0, now_s)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return is_too_often


def _key_of(client: Client) -> int | str:
    address = client.address
    if address is None:
        return ""
    if address.version == 4:
        return str(address)
    return int(address) >> (128 - _V6_PREFIX)
