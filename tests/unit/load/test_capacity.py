"""The search for a server's capacity, without a server."""

from __future__ import annotations

import pytest

from se_server.load.capacity import find_capacity


@pytest.mark.parametrize("capacity", [0, 1, 2, 15, 16, 17, 100, 1000, 8191, 8192, 100_000])
@pytest.mark.parametrize("first", [1, 16, 10_000])
def test_capacity_is_found_within_its_precision(capacity: int, first: int) -> None:
    tried: list[int] = []

    def holds(conversations: int) -> bool:
        tried.append(conversations)
        return conversations <= capacity

    found = find_capacity(holds, first, most=8192)
    expected = min(capacity, 8192)
    assert found <= expected <= found * 1.05 + 1
    assert all(1 <= trial <= 8192 for trial in tried)
    assert len(tried) <= 20
